import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from avssl.evaluation import class_scores, confused_pairs, confusion_matrix, wilson_interval


def test_class_scores_by_hand():
    # True class 0: 3 clips, 2 found; class 1: 1 clip, found; class 2: never shown and never said.
    scores = class_scores([[2, 1, 0], [0, 1, 0], [0, 0, 0]])
    assert scores.n.tolist() == [3, 1, 0]
    assert scores.recall.tolist()[:2] == [2 / 3, 1.0]
    assert scores.precision.tolist()[:2] == [1.0, 0.5]
    assert scores.f1.tolist()[:2] == pytest.approx([0.8, 2 / 3])
    assert np.isnan([scores.recall[2], scores.precision[2], scores.f1[2]]).all()
    assert scores.interval[0].tolist() == pytest.approx(wilson_interval(2, 3))
    assert scores.interval[2].tolist() == [0.0, 1.0]


def test_class_scores_match_scikit_learn():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(6, size=(2, 200))
    scores = class_scores(confusion_matrix(predicted, labels, 6))
    precision, recall, f1, n = precision_recall_fscore_support(labels, predicted)
    np.testing.assert_allclose(scores.precision, precision)
    np.testing.assert_allclose(scores.recall, recall)
    np.testing.assert_allclose(scores.f1, f1)
    np.testing.assert_array_equal(scores.n, n)


def test_confused_pairs_by_hand():
    confusion = [[9, 2, 0], [1, 9, 4], [0, 2, 9]]
    assert confused_pairs(confusion, 3) == [(1, 2, 4), (0, 1, 2), (2, 1, 2)]
    assert confused_pairs(confusion, 99)[-1] == (1, 0, 1)  # pairs that never happen are not listed
    assert len(confused_pairs(confusion, 99)) == 4
    assert confused_pairs(np.eye(3, dtype=int), 9) == []


@pytest.mark.parametrize("confusion", [[[1, 2]], [[1.0, 0.0], [0.0, 1.0]], [[1, -1], [0, 1]]])
def test_what_is_no_confusion_matrix_is_refused(confusion):
    for measure in (class_scores, lambda counts: confused_pairs(counts, 1)):
        with pytest.raises(ValueError, match=r"confusion must be \(K, K\) whole numbers"):
            measure(confusion)
