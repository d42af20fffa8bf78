"""AVSBench's IoU and F against loops written from their definitions."""

import math

import numpy as np
import pytest
import torch

from avssl.evaluation import avsbench_f, avsbench_f_released, avsbench_iou, avsbench_miou


def reference_iou(p, g):
    """p: probabilities (H, W); g: truth (H, W)."""
    hit = union = 0.0
    for value, true in zip(p.reshape(-1), g.reshape(-1), strict=True):
        chosen = 1 if value > 0.5 else 0
        hit += (1 - chosen) * (1 - true) if g.sum() == 0 else chosen * true
        union += 1 if g.sum() == 0 else max(chosen, true)
    return hit / (union + 1e-7)


def reference_curve(p, g):
    curve = []
    for i in range(255):
        threshold = i / 254 * (1 - 1e-10)
        chosen = p >= threshold
        hit = float((chosen * g).sum())
        precision, recall = hit / (chosen.sum() + 1e-20), hit / (g.sum() + 1e-20)
        curve.append(1.3 * precision * recall / (0.3 * precision + recall) if precision + recall else 0.0)
    return curve


def reference_f(p, truth):
    curves = [reference_curve(scores, g) for scores, g in zip(p, truth, strict=True) if g.sum() > 0]
    return max(sum(column) / len(curves) for column in zip(*curves, strict=True)) if curves else 0.0


@pytest.fixture
def masks():
    random = np.random.default_rng(0)
    logits = random.normal(size=(13, 9, 11)).astype(np.float32) * 2
    truth = (logits + random.normal(size=logits.shape) * 2 > 1).astype(float)
    truth[[3, 7]] = 0
    return logits, truth


def sigmoid(logits):
    return torch.from_numpy(logits).sigmoid().numpy()


def test_iou_matches_loop_reference(masks):
    logits, truth = masks
    expected = [reference_iou(p, g) for p, g in zip(sigmoid(logits), truth, strict=True)]
    assert avsbench_iou(logits, truth).tolist() == pytest.approx(expected, abs=1e-9)
    assert avsbench_miou(logits, truth) == pytest.approx(sum(expected) / 13, abs=1e-9)
    assert avsbench_iou(sigmoid(logits), truth, sigmoid=False).tolist() == pytest.approx(expected, abs=1e-9)


def test_iou_by_hand():
    logits = np.array([[3.0, 3.0, -3.0, -3.0]])
    assert avsbench_iou(logits, np.array([[1, 0, 1, 0]])) == pytest.approx(1 / 3, abs=1e-6)
    assert avsbench_iou(logits, np.array([[1, 1, 0, 0]])) == 2 / (2 + 1e-7) < 1
    assert avsbench_iou(logits, np.zeros((1, 4))) == 2 / (4 + 1e-7)  # half of the picture is rightly empty
    assert avsbench_iou(0 * logits, np.ones((1, 4))) == 0  # a probability of 0.5 is not above 0.5
    p = np.array([[0.1, 0.3, 0.5, 0.7]])
    assert avsbench_iou(p, np.array([[0, 1, 1, 1]]), sigmoid=False, threshold=0.2) == pytest.approx(1, abs=1e-6)


def test_f_matches_loop_reference(masks):
    logits, truth = masks
    assert avsbench_f(logits, truth) == pytest.approx(reference_f(sigmoid(logits), truth), abs=1e-9)
    assert avsbench_f(sigmoid(logits), truth, sigmoid=False) == avsbench_f(logits, truth)
    assert 0.5 < avsbench_f(logits, truth) < 0.95


@pytest.mark.parametrize("batch_size", [1, 4, 5, 13, 100])
def test_released_f_matches_loop_reference(masks, batch_size):
    logits, truth = masks
    p = sigmoid(logits)
    parts = [slice(first, first + batch_size) for first in range(0, 13, batch_size)]
    expected = sum(reference_f(p[part], truth[part]) for part in parts) / len(parts)
    assert avsbench_f_released(logits, truth, batch_size) == pytest.approx(expected, abs=1e-9)


def test_f_by_hand():
    p = np.array([[0.9, 0.6, 0.3, 0.0]])
    truth = np.array([[1, 0, 1, 0]])
    # From 0.9: P 1, R 1/2: 1.3 / 2 / (0.3 + 0.5) = 0.8125. From 0.3: P 2/3, R 1: 0.8667 / 1.2 = 0.7222.
    assert avsbench_f(p, truth, sigmoid=False) == pytest.approx(0.8125, abs=1e-6)
    assert avsbench_f(p, np.array([[1, 0.5, 0, 0]]), sigmoid=False) == pytest.approx(1.3 * 2 / 3 / (0.3 + 2 / 3))
    assert avsbench_f(np.ones((1, 4)), truth, sigmoid=False) == pytest.approx(1.3 * 0.5 / (0.3 * 0.5 + 1))
    assert avsbench_f(1 - truth.astype(float), truth, sigmoid=False) == pytest.approx(1.3 * 0.5 / 1.15)  # threshold 0


def test_released_f_depends_on_the_batch_and_the_other_form_does_not():
    """Two pictures whose best thresholds exclude one another: 1 each alone, 0.7826 together."""
    p = np.array([[[0.9, 0.5, 0.0, 0.0]], [[0.4, 0.2, 0.0, 0.0]]])
    truth = np.array([[[1, 0, 0, 0]], [[1, 0, 0, 0]]])
    alone = avsbench_f_released(p, truth, 1, sigmoid=False)
    together = avsbench_f_released(p, truth, 2, sigmoid=False)
    assert alone == pytest.approx(1)
    # One threshold for both: 0.4 takes two pixels of the first (P 1/2: 0.65 / 1.15) and one of the second.
    assert together == pytest.approx((1 + 0.65 / 1.15) / 2)
    assert together == pytest.approx(0.782609, abs=1e-6)
    assert avsbench_f(p, truth, sigmoid=False) == together
    order = [1, 0]
    assert avsbench_f(p[order], truth[order], sigmoid=False) == together


def test_empty_truths_have_no_f_and_empty_batches_count_as_zero():
    p, truth = np.full((2, 2, 2), 0.7), np.zeros((2, 2, 2))
    assert avsbench_f(p, truth, sigmoid=False) == 0
    assert avsbench_f_released(p, truth, sigmoid=False) == 0
    truth[0] = 1
    assert avsbench_f(p, truth, sigmoid=False) == pytest.approx(1)
    assert avsbench_f_released(p, truth, 1, sigmoid=False) == pytest.approx(0.5)
    assert avsbench_f_released(p, truth, 2, sigmoid=False) == pytest.approx(1)


def test_kinds_of_input_agree(masks):
    logits, truth = masks
    tensors = torch.from_numpy(logits), torch.from_numpy(truth)
    assert isinstance(avsbench_iou(*tensors), torch.Tensor)
    assert avsbench_iou(*tensors).tolist() == avsbench_iou(logits, truth).tolist()
    assert avsbench_miou(*tensors) == pytest.approx(avsbench_miou(logits, truth))
    assert avsbench_f(*tensors) == avsbench_f(logits, truth)
    assert avsbench_f(logits[0], truth[0] > 0) == avsbench_f_released(logits[:1], truth[:1])
    assert avsbench_miou(logits[0], truth[0]) == avsbench_iou(logits[0], truth[0]) == avsbench_iou(logits, truth)[0]
    assert math.isfinite(avsbench_f(1e4 * logits, truth))


def test_avsbench_refuses(masks):
    logits, truth = masks
    with pytest.raises(ValueError, match=r"scores \(9, 11\) must have the size of truth \(9, 10\): resize them"):
        avsbench_iou(logits, truth[:, :, :10])
    with pytest.raises(ValueError, match="scores and truth must hold the same samples"):
        avsbench_f(logits[:2], truth)
    with pytest.raises(ValueError, match=r"scores must be probabilities in \[0, 1\] where sigmoid=False, got -"):
        avsbench_f(logits, truth, sigmoid=False)
    with pytest.raises(ValueError, match=r"batch_size \(0\) must be at least 1"):
        avsbench_f_released(logits, truth, 0)
    with pytest.raises(ValueError, match=r"truth must be in \[0, 1\], got 0.0 to 255"):
        avsbench_miou(logits, 255 * truth)
