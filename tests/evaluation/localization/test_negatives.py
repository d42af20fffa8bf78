"""SLAVC's measures against loops written from their definitions."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from avssl.evaluation import extended_scores, resize_heatmaps, slavc_confidence


def reference_precision_recall(confidence, ciou, has_box, threshold):
    true_positive = false_positive = false_negative = 0
    for sure, overlap, visible in zip(confidence, ciou, has_box, strict=True):
        if sure >= threshold and visible and overlap >= 0.5:
            true_positive += 1
        elif sure >= threshold:
            false_positive += 1
        elif visible:
            false_negative += 1
    found, there = true_positive + false_positive, true_positive + false_negative
    return true_positive / found if found else 1.0, true_positive / there if there else 1.0


def reference(confidence, ciou, has_box):
    """(AP, max-F1, LocAcc)."""
    ascending = sorted(confidence)
    n = len(ascending)
    points = [
        reference_precision_recall(confidence, ciou, has_box, threshold)
        for threshold in list(reversed(ascending[:-1]))[:: max(1, n // 200)]
    ]
    ap = 0.0
    for i in range(len(points) - 1):
        ap += max(p for p, _ in points[i:]) * (points[i + 1][1] - points[i][1])
    f1 = []
    for threshold in ascending[:: max(1, n // 10)]:
        p, r = reference_precision_recall(confidence, ciou, has_box, threshold)
        f1.append(2 * p * r / (p + r) if p + r else 0.0)
    of_positives = [overlap for overlap, visible in zip(ciou, has_box, strict=True) if visible]
    return ap, max(f1), sum(overlap > 0.5 for overlap in of_positives) / len(of_positives)


@pytest.mark.parametrize("n", [2, 9, 10, 25, 199, 200, 401, 1030])
@pytest.mark.parametrize("ties", [False, True])
def test_matches_loop_reference(n, ties):
    random = np.random.default_rng(n)
    has_box = random.random(n) < 0.6
    has_box[0] = True
    confidence = random.random(n) + 0.3 * has_box
    if ties:
        confidence = confidence.round(1)
    ciou = np.where(random.random(n) < 0.2, 0.5, random.random(n))
    found = extended_scores(confidence, ciou, has_box)
    assert (found.ap, found.max_f1, found.loc_acc) == pytest.approx(reference(confidence, ciou, has_box), abs=1e-12)
    assert (found.num_positives, found.num_negatives) == (has_box.sum(), n - has_box.sum())
    assert n < 20 or 0.05 < found.ap < found.max_f1 < 0.9


def test_hand_made_case():
    """Thresholds 0.8, 0.7, 0.6, 0.5 (not 0.9): (precision, recall) 2/2 of 2/4, 2/3, 2/4 of 2/3, 3/5 of 3/3."""
    confidence = [0.9, 0.8, 0.7, 0.6, 0.5]
    ciou = [0.6, 0.5, 0.0, 0.4, 0.9]
    has_box = [1, 2, 0, 1, 1]
    found = extended_scores(confidence, ciou, has_box)
    # Recall: positives found wrongly are not "missed", so it is 2/4, 2/4, 2/3, 3/3.
    assert found.ap == pytest.approx(1 * 0 + 2 / 3 * (2 / 3 - 1 / 2) + 3 / 5 * (1 - 2 / 3), abs=1e-12)
    assert found.ap == pytest.approx(0.311111, abs=1e-6)
    # All five thresholds: 0.5 gives precision 3/5 and recall 1.
    assert found.max_f1 == pytest.approx(0.75)
    assert found.loc_acc == 0.5  # the cIoU of exactly 0.5 is a true positive above, and no success here
    assert (found.num_positives, found.num_negatives) == (4, 1)


def test_is_not_scikit_learn_s_average_precision():
    confidence, has_box = [0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0]
    found = extended_scores(confidence, [1.0] * 4, has_box)
    assert average_precision_score(has_box, confidence) == 1
    assert found.ap == 0  # the first threshold (0.8) finds both, and the first contributes nothing


def test_degenerate_sets():
    alone = extended_scores([0.3], [0.9], [True])
    assert (alone.ap, alone.max_f1, alone.loc_acc) == (0, 1, 1)
    one_negative = extended_scores([0.3], [0.0], [False])
    assert (one_negative.ap, one_negative.max_f1, one_negative.num_negatives) == (0, 0, 1)
    assert math.isnan(one_negative.loc_acc)
    negatives = extended_scores([0.3, 0.2, 0.1], [0.0, 0.0, 0.9], [0, 0, 0])
    assert (negatives.ap, negatives.max_f1) == (0, 0)
    assert math.isnan(negatives.loc_acc)
    tied = extended_scores([0.5] * 4, [0.9] * 4, [1, 1, 0, 0])
    assert (tied.ap, tied.max_f1, tied.loc_acc) == (0, pytest.approx(2 / 3), 1)
    wrong = extended_scores([0.5, 0.4], [0.1, 0.1], [1, 1])
    assert (wrong.ap, wrong.max_f1, wrong.loc_acc) == (0, 0, 0)


def test_values_of_negatives_and_kind_of_input_do_not_matter():
    random = np.random.default_rng(0)
    confidence, ciou, has_box = random.random(50), random.random(50), random.random(50) < 0.5
    found = extended_scores(confidence, ciou, has_box)
    assert extended_scores(confidence, np.where(has_box, ciou, 1.0), has_box) == found
    assert extended_scores(*(torch.from_numpy(v) for v in (confidence, ciou, has_box))) == found
    assert extended_scores(confidence.tolist(), ciou.tolist(), has_box.tolist()) == found
    assert extended_scores(np.exp(confidence), ciou, 3 * has_box) == found
    assert extended_scores(confidence, ciou, has_box, at=0.75).ap < found.ap


def test_confidence_is_the_mean_of_the_top_quarter():
    maps = np.tanh(np.random.default_rng(0).normal(size=(3, 7, 7)))
    result = slavc_confidence(maps)
    for i in range(3):
        resized = resize_heatmaps(maps[i], 224, "bicubic_corners")
        pixels = sorted(((float(v) + 1) / 2 for v in resized.reshape(-1)), reverse=True)
        assert result[i] == pytest.approx(sum(pixels[:12544]) / 12544, abs=1e-6)
    assert slavc_confidence(maps[1]) == result[1]
    as_tensor = slavc_confidence(torch.from_numpy(maps / 0.03), tau=0.03)
    assert isinstance(as_tensor, torch.Tensor)
    assert as_tensor.tolist() == pytest.approx(result.tolist(), abs=1e-6)


def test_confidence_by_hand():
    cells = np.array([[0.5, -0.5], [0.25, -1.0]])
    assert slavc_confidence(cells, size=2) == 0.75  # the highest of four
    assert slavc_confidence(cells[:, :1], size=(2, 1)) == 0.75  # a quarter of two, rounded up
    assert slavc_confidence(np.full((2, 5), 0.5), size=(2, 5)) == 0.75
    ramp = np.arange(-4.0, 5.0).reshape(3, 3) / 8  # ceil(9 / 4) = 3 highest: 2/8, 3/8, 4/8
    assert slavc_confidence(ramp, size=3) == pytest.approx((3 / 8 + 1) / 2)
    assert slavc_confidence(np.zeros((7, 7))) == 0.5


def test_chunks_do_not_change_confidence(monkeypatch):
    maps = np.tanh(np.random.default_rng(0).normal(size=(5, 4, 4)))
    whole = slavc_confidence(maps, size=8)
    monkeypatch.setattr("avssl.evaluation.localization.chunks._CHUNK", 128)
    assert slavc_confidence(maps, size=8).tolist() == whole.tolist()


def test_negatives_refuse():
    with pytest.raises(ValueError, match="ciou must hold one value for each of the 2 confidences, got 1"):
        extended_scores([0.1, 0.2], [0.1], [1, 1])
    with pytest.raises(ValueError, match="has_box must hold one value for each of the 2 confidences, got 3"):
        extended_scores([0.1, 0.2], [0.1, 0.2], [1, 1, 0])
    with pytest.raises(ValueError, match="confidence hold NaN"):
        extended_scores([float("nan"), 0.2], [0.1, 0.2], [1, 1])
    with pytest.raises(ValueError, match=r"heatmap must be cosines divided by tau \(1.0\), in \[-1, 1\], got 3"):
        slavc_confidence(np.full((2, 2), 3.0))
    with pytest.raises(ValueError, match="unknown mode"):
        slavc_confidence(np.zeros((2, 2)), mode="area")
