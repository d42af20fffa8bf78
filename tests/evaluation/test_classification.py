import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.metrics import confusion_matrix as reference_confusion

from avssl.evaluation import average_clips, confusion_matrix, mean_average_precision, top_k_accuracy

LN3 = np.log(3.0)


def test_clips_are_averaged_as_probabilities_or_as_logits():
    # softmax: [3/4, 1/4], [1/4, 3/4], [1/4, 3/4] -> mean [5/12, 7/12]
    logits = np.array([[[LN3, 0.0], [0.0, LN3], [0.0, LN3]]])
    np.testing.assert_allclose(average_clips(logits), [[5 / 12, 7 / 12]])
    np.testing.assert_allclose(average_clips(logits, "logit"), [[LN3 / 3, 2 * LN3 / 3]])


def test_one_sure_clip_outvotes_two_in_logits_but_not_in_probabilities():
    logits = np.array([[[100.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    assert average_clips(logits, "logit").argmax() == 0
    # (1 + 2 / (1 + e)) / 3 = 0.513 for class 0: sure clips are bounded; with three doubters it loses
    np.testing.assert_allclose(average_clips(logits)[0, 0], (1 + 2 / (1 + np.e)) / 3)
    more = np.concatenate([logits, logits[:, 1:]], axis=1)
    assert average_clips(more).argmax() == 1


def test_averages_of_probabilities_ignore_an_offset_of_a_clip():
    logits = np.random.default_rng(0).normal(size=(3, 4, 5))
    np.testing.assert_allclose(average_clips(logits + 1000 * np.arange(4)[None, :, None]), average_clips(logits))


def test_top_k_of_distinct_scores():
    scores = [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]
    labels = [0, 1, 2, 2]
    assert [top_k_accuracy(scores, labels, k) for k in (1, 2, 3, 7)] == [0.5, 0.75, 1.0, 1.0]


def test_top_k_counts_ties_in_expectation():
    # Class 1 shares places 2, 3 and 4 with two others: in the first 3 with probability 2 / 3.
    scores = [[5.0, 1.0, 1.0, 1.0, 0.0]]
    assert [top_k_accuracy(scores, [1], k) for k in (1, 2, 3, 4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    constant = np.zeros((6, 8))
    assert top_k_accuracy(constant, [0, 0, 0, 0, 1, 7]) == pytest.approx(1 / 8)
    assert top_k_accuracy(constant, [0, 0, 0, 0, 1, 7], 5) == pytest.approx(5 / 8)


def test_confusion_has_true_classes_in_rows():
    predicted, labels = [0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 1, 0]
    matrix = confusion_matrix(predicted, labels, 4)
    assert matrix.tolist() == [[1, 1, 1, 0], [0, 1, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, reference_confusion(labels, predicted, labels=range(4)))


def test_average_precision_by_hand():
    # Ranks of the positives 1 and 3: (1/1 + 2/3) / 2. Second class: rank 4 of 4.
    scores = np.array([[0.9, 0.9], [0.8, 0.8], [0.7, 0.7], [0.1, 0.1]])
    targets = np.array([[1, 0], [0, 0], [1, 0], [0, 1]], dtype=bool)
    mean, per_class = mean_average_precision(scores, targets)
    np.testing.assert_allclose(per_class, [5 / 6, 1 / 4])
    assert mean == pytest.approx((5 / 6 + 1 / 4) / 2)


def test_average_precision_of_ties_does_not_depend_on_the_order():
    # All four share one threshold: precision 1/4 at recall 1, wherever the positive stands.
    for place in range(4):
        targets = (np.arange(4) == place)[:, None]
        assert mean_average_precision(np.zeros((4, 1)), targets)[0] == pytest.approx(1 / 4)
    # 2 above, then a run of three with one positive: 1/2 * 1/1 + 0 + 1/2 * 2/4
    assert mean_average_precision([[2.0], [1.0], [1.0], [1.0]], np.array([[1], [0], [0], [1]], bool))[0] == 0.75


def test_average_precision_matches_scikit_learn_with_ties():
    generator = np.random.default_rng(1)
    for levels in (2, 5, 1000):
        scores = generator.integers(levels, size=(60, 7)) / 8
        targets = generator.random((60, 7)) < 0.2
        _, per_class = mean_average_precision(scores, targets)
        expected = [average_precision_score(targets[:, k], scores[:, k]) for k in range(7)]
        np.testing.assert_allclose(per_class, expected)


def test_class_without_positives_is_nan_and_left_out_of_the_mean():
    mean, per_class = mean_average_precision([[0.9, 0.1], [0.1, 0.9]], np.array([[1, 0], [0, 0]], bool))
    assert mean == 1.0
    assert np.isnan(per_class[1])
    with pytest.raises(ValueError, match="no positive in any class"):
        mean_average_precision([[0.9, 0.1]], np.zeros((1, 2), bool))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: average_clips(np.zeros((2, 3))), r"logits must be \(N, W, K\) and not empty, got shape \(2, 3\)"),
        (
            lambda: average_clips(np.full((2, 1, 3), np.nan)),
            "logits hold NaN or infinity in 2 of 2 rows, first in row 0",
        ),
        (lambda: average_clips(np.zeros((1, 1, 1)), "vote"), r"how \('vote'\) must be"),
        (lambda: top_k_accuracy([[1.0, np.inf]], [0]), "scores hold NaN or infinity"),
        (lambda: top_k_accuracy([[1.0, 2.0]], [0, 1]), r"labels must be \(1,\) whole numbers"),
        (lambda: top_k_accuracy([[1.0, 2.0]], [2]), r"labels must lie in 0 \.\.\. 1, got 2 in row 0"),
        (lambda: top_k_accuracy([[1.0, 2.0]], [0.5]), "whole numbers"),
        (lambda: top_k_accuracy([[1.0, 2.0]], [0], 0), r"k \(0\) must be at least 1"),
        (lambda: confusion_matrix([0, 1], [0], 2), r"labels must be \(2,\)"),
        (lambda: confusion_matrix([-1], [0], 2), "predicted must lie in"),
        (lambda: mean_average_precision([[np.nan]], np.ones((1, 1), bool)), "scores hold NaN"),
        (lambda: mean_average_precision([[1.0, 2.0]], np.ones((1, 1), bool)), r"targets must be \(1, 2\) bool"),
        (lambda: mean_average_precision([[1.0]], np.ones((1, 1), int)), "bool as scores are"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
