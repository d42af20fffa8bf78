"""Temperature scaling and scores of unknown videos, by hand and against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avssl.core.errors import InputError
from avssl.evaluation.calibration import Calibration, known_scores, scale_probabilities
from avssl.evaluation.video_scores import video_probabilities

LOGITS = np.random.default_rng(0).normal(scale=4, size=(7, 3, 5)).astype(np.float32)


def test_scaling_the_probabilities_of_one_clip_is_scaling_its_logits() -> None:
    one = LOGITS[:, :1]
    for temperature in (0.3, 1.0, 2.5):
        scaled = scale_probabilities(video_probabilities(one), temperature)
        expected = torch.softmax(torch.from_numpy(one[:, 0]).double() / temperature, dim=1)
        np.testing.assert_allclose(scaled, expected, rtol=1e-12)
        scaled = scale_probabilities(video_probabilities(one, multi_label=True), temperature, multi_label=True)
        np.testing.assert_allclose(scaled, torch.sigmoid(torch.from_numpy(one[:, 0]).double() / temperature), rtol=1e-9)


@pytest.mark.parametrize("average", ["probability", "logit"])
def test_scaling_keeps_the_order_of_the_classes(average: str) -> None:
    plain = Calibration().probabilities(LOGITS, average)
    np.testing.assert_array_equal(plain, video_probabilities(LOGITS, average))
    scaled = Calibration(temperature=3.0).probabilities(LOGITS, average)
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    np.testing.assert_array_equal(scaled.argsort(axis=1), plain.argsort(axis=1))
    assert scaled.max() < plain.max()


def test_a_class_of_probability_zero_keeps_it() -> None:
    np.testing.assert_allclose(scale_probabilities([[0.0, 0.2, 0.8]], 2.0), [[0, 1 / 3, 2 / 3]])
    np.testing.assert_allclose(scale_probabilities([[0.0, 0.5, 1.0]], 2.0, multi_label=True), [[0, 0.5, 1]])


def test_scores_of_known_videos_by_hand() -> None:
    logits = np.array([[[0.0, 0.0], [np.log(3), 0.0]], [[9.0, 1.0], [9.0, 1.0]]])
    probabilities = video_probabilities(logits)
    scores = known_scores(logits, probabilities)
    assert scores["energy"][0] == pytest.approx((np.log(2) + np.log(4)) / 2)
    assert scores["energy"][1] == pytest.approx(torch.logsumexp(torch.tensor([9.0, 1.0]), 0).item())
    assert scores["probability"][0] == pytest.approx((0.5 + 0.75) / 2)
    of_labels = known_scores(logits, video_probabilities(logits, multi_label=True), multi_label=True)
    assert of_labels["energy"][0] == pytest.approx((2 * np.log(2) + np.log(4) + np.log(2)) / 2)


def test_videos_below_the_threshold_are_unknown() -> None:
    logits = np.array([[[5.0, 0.0]], [[0.1, 0.0]]])
    assert not Calibration().is_unknown(logits, "probability").any()
    by_probability = Calibration(unknown_score="probability", unknown_threshold=0.9)
    assert by_probability.is_unknown(logits, "probability").tolist() == [False, True]
    assert Calibration(unknown_threshold=5.0).is_unknown(logits, "logit").tolist() == [False, True]
    # A high temperature makes both unsure; the energy is that of the plain logits.
    unsure = Calibration(20.0, "probability", 0.9)
    assert unsure.is_unknown(logits, "probability").all()


def test_wrong_numbers_are_errors() -> None:
    with pytest.raises(InputError, match=r"temperature \(0\) must be >= 1e-06"):
        Calibration(temperature=0)
    with pytest.raises(InputError, match="unknown_score \\('entropy'\\) must be one of energy, probability"):
        Calibration(unknown_score="entropy")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"unknown_threshold \(nan\)"):
        Calibration(unknown_threshold=float("nan"))
