"""AVSBench's IoU and F against loops written from their definitions."""

import numpy as np
import pytest
import torch

from avssl.evaluation import avsbench_f_curves, avsbench_iou, best_f


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


def avsbench_f(scores, truth):
    return best_f(avsbench_f_curves(scores, truth))


@pytest.fixture
def masks():
    random = np.random.default_rng(0)
    p = 1 / (1 + np.exp(-2 * random.normal(size=(13, 9, 11)))).astype(np.float32)
    truth = (p + 0.3 * random.normal(size=p.shape) > 0.6).astype(float)
    truth[[3, 7]] = 0
    return p.astype(np.float32), truth


def test_iou_matches_loop_reference(masks):
    expected = [reference_iou(p, g) for p, g in zip(*masks, strict=True)]
    assert avsbench_iou(*masks).tolist() == pytest.approx(expected, abs=1e-9)


def test_iou_by_hand():
    p = np.array([[0.9, 0.9, 0.1, 0.1]])
    assert avsbench_iou(p, np.array([[1, 0, 1, 0]])) == pytest.approx(1 / 3, abs=1e-6)
    assert avsbench_iou(p, np.array([[1, 1, 0, 0]])) == 2 / (2 + 1e-7) < 1
    assert avsbench_iou(p, np.zeros((1, 4))) == 2 / (4 + 1e-7)  # half of the image is rightly empty
    assert avsbench_iou(0 * p + 0.5, np.ones((1, 4))) == 0  # a probability of 0.5 is not above 0.5
    p = np.array([[0.1, 0.3, 0.5, 0.7]])
    assert avsbench_iou(p, np.array([[0, 1, 1, 1]]), threshold=0.2) == pytest.approx(1, abs=1e-6)


def test_f_matches_loop_reference(masks):
    assert avsbench_f(*masks) == pytest.approx(reference_f(*masks), abs=1e-9)
    assert 0.5 < avsbench_f(*masks) < 0.99


def test_f_by_hand():
    p = np.array([[0.9, 0.6, 0.3, 0.0]])
    truth = np.array([[1, 0, 1, 0]])
    # From 0.9: P 1, R 1/2: 1.3 / 2 / (0.3 + 0.5) = 0.8125. From 0.3: P 2/3, R 1: 0.8667 / 1.2 = 0.7222.
    assert avsbench_f(p, truth) == pytest.approx(0.8125, abs=1e-6)
    assert avsbench_f(p, np.array([[1, 0.5, 0, 0]])) == pytest.approx(1.3 * 2 / 3 / (0.3 + 2 / 3))
    assert avsbench_f(np.ones((1, 4)), truth) == pytest.approx(1.3 * 0.5 / (0.3 * 0.5 + 1))
    assert avsbench_f(1 - truth.astype(float), truth) == pytest.approx(1.3 * 0.5 / 1.15)  # threshold 0


def test_one_threshold_for_a_set_is_worse_than_one_for_each_image():
    """The best thresholds of two images exclude one another: 1 each alone, 0.7826 together."""
    p = np.array([[[0.9, 0.5, 0.0, 0.0]], [[0.4, 0.2, 0.0, 0.0]]])
    truth = np.array([[[1, 0, 0, 0]], [[1, 0, 0, 0]]])
    curves = avsbench_f_curves(p, truth)
    assert [best_f(curve[None]) for curve in curves] == pytest.approx([1, 1])
    # One threshold for both: 0.4 takes two pixels of the first (P 1/2: 0.65 / 1.15) and one of the second.
    assert best_f(curves) == best_f(curves[::-1]) == pytest.approx((1 + 0.65 / 1.15) / 2)


def test_empty_truths_have_no_f():
    p, truth = np.full((2, 2, 2), 0.7), np.zeros((2, 2, 2))
    assert avsbench_f(p, truth) == 0
    truth[0] = 1
    assert avsbench_f(p, truth) == pytest.approx(1)
    assert np.isnan(avsbench_f_curves(p, truth)).all(axis=1).tolist() == [False, True]


def test_kinds_of_input_agree(masks):
    p, truth = masks
    tensors = torch.from_numpy(p), torch.from_numpy(truth)
    assert isinstance(avsbench_iou(*tensors), torch.Tensor)
    assert avsbench_iou(*tensors).tolist() == avsbench_iou(p, truth).tolist()
    assert avsbench_f(*tensors) == avsbench_f(p, truth)
    assert avsbench_iou(p[0], truth[0]) == avsbench_iou(p, truth)[0]


def test_avsbench_rejects_other_values(masks):
    p, truth = masks
    with pytest.raises(ValueError, match=r"scores \(9, 11\) must have the size of truth \(9, 10\): resize them"):
        avsbench_iou(p, truth[:, :, :10])
    with pytest.raises(ValueError, match="scores and truth must hold the same samples"):
        avsbench_f(p[:2], truth)
    with pytest.raises(ValueError, match=r"scores must be probabilities in \[0, 1\], got -"):
        avsbench_f(p - 0.5, truth)
