import numpy as np
import pytest

from avssl.core.errors import InputError
from avssl.evaluation.vggsounder import modality_confusion, top_k_scores


def one_hot(classes, num_classes=4):
    return np.eye(num_classes)[classes]


def test_scores_of_clips_counted_by_hand():
    targets = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]], dtype=bool)
    scores = np.array([[0.9, 0.5, 0.1, 0.0], [0.8, 0.1, 0.7, 0.0], [0.1, 0.2, 0.0, 0.9]])
    found = top_k_scores(scores, targets, (1, 2))
    # Best classes: 0 (right), 0 (wrong), 3 (wrong); one of three guesses, one of four labels.
    assert found["hit_rate@1"] == pytest.approx(1 / 3)
    assert found["precision@1"] == pytest.approx(1 / 3)
    assert found["recall@1"] == pytest.approx(1 / 4)
    assert found["f1@1"] == pytest.approx(2 / 7)
    assert found["jaccard@1"] == pytest.approx(1 / 6)
    assert found["accuracy@1"] == 0
    # Class 0 has 1 of 2 guesses and 1 of 2 labels right, the others nothing.
    assert found["f1_macro@1"] == pytest.approx(0.5 / 4)
    # Two best: {0, 1} all right, {0, 2} half right, {3, 1} wrong.
    assert found["hit_rate@2"] == pytest.approx(2 / 3)
    assert found["recall@2"] == pytest.approx(3 / 4)
    assert found["accuracy@2"] == pytest.approx(1 / 3)
    # Class 0: 0.9 above 0.8, 0.1 below; class 1: 0.5 first; class 2: 0.7 first. Class 3 has no clip.
    assert found["auc_roc"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found["auc_pr"] == pytest.approx(((1 + 2 / 3) / 2 + 1 + 1) / 3)


def test_confusion_counts_clips_that_a_modality_alone_gets_right():
    targets = one_hot([0, 0, 0, 0, 0]).astype(bool)
    scores = {
        "a": one_hot([0, 0, 1, 0, 1]),
        "v": one_hot([0, 1, 0, 0, 1]),
        "av": one_hot([1, 1, 1, 0, 1]),  # clip 0: each alone right; 1: audio; 2: video; 3: all; 4: none
    }
    assert modality_confusion(scores, targets) == {"a": 2 / 5, "v": 2 / 5, "av": 1 / 5}
    assert modality_confusion(scores | {"av": targets.astype(float)}, targets) == {"a": 0, "v": 0, "av": 0}


@pytest.mark.parametrize(
    ("targets", "top_k", "message"),
    [
        (np.zeros((2, 4), dtype=bool), (1,), "clip 0 has no class"),
        (np.ones((2, 4), dtype=bool), (5,), r"\[1, 4\]"),
        (np.ones((3, 4), dtype=bool), (1,), "same clips"),
        (np.ones((2, 4)), (1,), "targets bool"),
    ],
)
def test_wrong_arrays_are_named(targets, top_k, message):
    with pytest.raises(InputError, match=message):
        top_k_scores(np.zeros((2, 4)), targets, top_k)
