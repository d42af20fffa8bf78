"""Calibration errors and the choice of a calibration, by hand and against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from avssl.core.errors import InputError
from avssl.evaluation.calibration import scale_probabilities
from avssl.evaluation.calibration_fit import fit_temperature, threshold_that_keeps, unknown_numbers
from avssl.evaluation.reliability import calibration_numbers, reliability

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(4000, 6)) * 2
TARGETS = np.array([RNG.choice(6, p=p) for p in softmax(LOGITS, axis=1)])  # the logits are right as they are


def test_ece_and_brier_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.0, 1.0]])
    targets = np.array([0, 1, 1, 1])
    found = reliability(probabilities, targets, num_bins=4)
    assert found.count.tolist() == [0, 0, 1, 3]
    assert found.confidence[2:].tolist() == pytest.approx([0.7, 0.9])
    assert found.accuracy[2:].tolist() == pytest.approx([1.0, 2 / 3])
    assert found.expected_error == pytest.approx((0.3 + 3 * (0.9 - 2 / 3)) / 4)
    numbers = calibration_numbers(probabilities, targets)
    assert numbers["brier"] == pytest.approx((0.02 + 1.28 + 0.18 + 0) / 4)
    assert numbers["nll"] == pytest.approx(-np.log([0.9, 0.2, 0.7, 1.0]).mean())


def test_a_sure_and_wrong_classifier_is_as_bad_as_can_be() -> None:
    assert calibration_numbers([[1.0, 0.0]], [1])["ece"] == 1.0
    assert calibration_numbers([[1.0, 0.0]], [1])["brier"] == 2.0
    assert calibration_numbers([[1.0, 0.0]], [0]) == {"ece": 0.0, "brier": 0.0, "nll": 0.0}
    uniform = calibration_numbers(np.full((5, 4), 0.25), [0, 1, 2, 3, 0])
    assert uniform["brier"] == pytest.approx(0.75)
    assert uniform["nll"] == pytest.approx(np.log(4))


def test_numbers_match_scikit_learn() -> None:
    probabilities = softmax(LOGITS, axis=1)
    numbers = calibration_numbers(probabilities, TARGETS)
    assert numbers["brier"] == pytest.approx(brier_score_loss(TARGETS, probabilities, scale_by_half=False))
    assert numbers["nll"] == pytest.approx(log_loss(TARGETS, probabilities))
    labels = RNG.random((500, 3)) < 0.3
    values = RNG.random((500, 3))
    several = calibration_numbers(values, labels)
    assert several["brier"] == pytest.approx(brier_score_loss(labels.ravel(), values.ravel()))
    assert several["nll"] == pytest.approx(log_loss(labels.ravel(), values.ravel()))
    right = (probabilities.argmax(axis=1) == TARGETS, probabilities.max(axis=1))
    cases = ((labels.ravel(), values.ravel(), reliability(values, labels)),
             (*right, reliability(probabilities, TARGETS)))  # fmt: skip
    for truth, confidence, found in cases:
        accuracy, mean = calibration_curve(truth, confidence, n_bins=15)
        filled = found.count > 0
        np.testing.assert_allclose(found.accuracy[filled], accuracy)
        np.testing.assert_allclose(found.confidence[filled], mean)


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_a_wrong_scale(true_temperature: float) -> None:
    probabilities = softmax(LOGITS * true_temperature, axis=1)
    temperature = fit_temperature(probabilities, TARGETS)

    def nll(value: np.ndarray) -> float:
        scaled = log_softmax(LOGITS * true_temperature / value[0], axis=1)
        return float(-scaled[np.arange(len(TARGETS)), TARGETS].mean())

    assert temperature == pytest.approx(minimize(nll, [1.0], method="Nelder-Mead").x[0], rel=2e-3)
    assert temperature == pytest.approx(true_temperature, rel=0.06)
    before = calibration_numbers(probabilities, TARGETS)
    after = calibration_numbers(scale_probabilities(probabilities, temperature), TARGETS)
    assert after["ece"] < max(0.02, before["ece"] / 3)


def test_a_few_videos_that_are_all_right_give_a_finite_temperature() -> None:
    temperature = fit_temperature([[0.6, 0.4], [0.3, 0.7]], [0, 1])
    assert 0.2 < temperature < 0.8
    assert fit_temperature(np.full((3, 2), 0.5), [0, 1, 0]) == pytest.approx(1.0, abs=1e-3)
    assert fit_temperature([[0.999, 0.001], [0.001, 0.999]] * 5, [1, 0] * 5) > 10  # sure and wrong


def test_several_labels_have_one_temperature() -> None:
    odds = RNG.normal(size=(2000, 3))
    labels = RNG.random((2000, 3)) < 1 / (1 + np.exp(-odds))
    assert fit_temperature(1 / (1 + np.exp(-2 * odds)), labels) == pytest.approx(2.0, rel=0.1)


def test_the_threshold_keeps_the_share() -> None:
    scores = np.arange(20.0)[::-1]
    assert threshold_that_keeps(scores, 0.95) == 1.0
    assert threshold_that_keeps(scores, 1.0) == 0.0
    assert threshold_that_keeps([3.0], 0.95) == 3.0
    for share in (0.5, 0.9, 0.95):
        values = RNG.normal(size=37)
        assert (values >= threshold_that_keeps(values, share)).mean() >= share


def test_unknown_videos_are_told_by_lower_scores() -> None:
    assert unknown_numbers([3.0, 4.0], [1.0, 2.0]) == {"auroc": 1.0, "fpr95": 0.0}
    assert unknown_numbers([1.0, 1.0], [1.0, 1.0]) == {"auroc": 0.5, "fpr95": 1.0}
    known, unknown = RNG.normal(1, 1, 400), RNG.normal(0, 1, 300)
    numbers = unknown_numbers(known, unknown)
    truth, scores = np.repeat([1, 0], [400, 300]), np.concatenate([known, unknown])
    assert numbers["auroc"] == pytest.approx(roc_auc_score(truth, scores))
    assert numbers["fpr95"] == pytest.approx((unknown >= np.quantile(known, 0.05)).mean(), abs=0.01)


@pytest.mark.parametrize(
    ("probabilities", "targets", "message"),
    [
        ([[1.2, -0.2]], [0], r"must be in \[0, 1\], got -0.2 to 1.2"),
        ([[0.5, 0.5]], [2], "targets"),
        ([[0.5, 0.5]], np.array([[True]]), r"targets must be \(1, 2\) bool"),
    ],
)
def test_what_is_no_prediction_raises(probabilities: object, targets: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        calibration_numbers(probabilities, targets)  # type: ignore[arg-type]
