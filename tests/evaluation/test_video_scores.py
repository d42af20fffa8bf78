import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from avssl.evaluation.video_scores import baseline_numbers, video_numbers, video_probabilities

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(40, 3, 7))
TARGETS = RNG.integers(0, 7, size=40)


def test_probabilities_are_averaged_before_or_after():
    np.testing.assert_allclose(video_probabilities(LOGITS), softmax(LOGITS, axis=2).mean(axis=1))
    np.testing.assert_allclose(video_probabilities(LOGITS, "logit"), softmax(LOGITS.mean(axis=1), axis=1))
    np.testing.assert_allclose(video_probabilities(LOGITS, multi_label=True), expit(LOGITS).mean(axis=1))
    np.testing.assert_allclose(video_probabilities(LOGITS, "logit", multi_label=True), expit(LOGITS.mean(axis=1)))


def test_single_label_numbers_equal_scikit_learns():
    numbers = video_numbers(LOGITS, TARGETS)
    chosen = softmax(LOGITS, axis=2).mean(axis=1).argmax(axis=1)
    assert numbers["top1"] == pytest.approx((chosen == TARGETS).mean())
    assert numbers["mean_per_class"] == pytest.approx(balanced_accuracy_score(TARGETS, chosen))
    assert numbers["clip_top1"] == pytest.approx((LOGITS.argmax(axis=2) == TARGETS[:, None]).mean())
    assert numbers["top5"] >= numbers["top1"]


def test_clips_may_be_wrong_where_the_video_is_right():
    logits = np.array([[[4.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    numbers = video_numbers(logits, [0])
    assert (numbers["top1"], numbers["clip_top1"]) == (1.0, pytest.approx(1 / 3))
    assert "top5" not in numbers  # of two classes it is always 1


def test_multi_label_numbers_equal_scikit_learns():
    targets = RNG.random((40, 7)) < 0.3
    numbers = video_numbers(LOGITS, targets)
    expected = average_precision_score(targets, expit(LOGITS).mean(axis=1))
    assert numbers["mAP"] == pytest.approx(expected)
    assert numbers["clip_mAP"] == pytest.approx(
        average_precision_score(targets.repeat(3, axis=0), LOGITS.reshape(-1, 7))
    )
    assert baseline_numbers(targets, 7) == {"chance": pytest.approx(targets.mean(axis=0).mean())}


def test_baselines_of_single_labels():
    assert baseline_numbers([0, 0, 0, 2], 5) == {"chance": 0.2, "largest_class": 0.75}
