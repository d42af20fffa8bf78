"""Prompted segmentation against scikit-learn and loops."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from avssl.evaluation import prompted_segmentation, resize_heatmaps


def reference_best_iou(pixels, true):
    low, high = min(pixels), max(pixels)
    best = 0.0
    for i in range(20):
        threshold = low + (high - low) * i / 19
        chosen = [v > threshold for v in pixels]
        hit = sum(c and t for c, t in zip(chosen, true, strict=True))
        union = sum(c or t for c, t in zip(chosen, true, strict=True))
        best = max(best, hit / union if union else 0.0)
    return best


@pytest.fixture
def prompts():
    random = np.random.default_rng(0)
    maps = random.normal(size=(9, 4, 5)).astype(np.float32) * random.uniform(0.2, 3, size=(9, 1, 1)).astype(np.float32)
    truth = resize_heatmaps(maps, (8, 10)) + random.normal(size=(9, 8, 10)) > 0.6
    return maps, truth, ["cow", "dog", "cow", "bell", "dog", "cow", "bell", "cow", "dog"]


def test_matches_scikit_learn_and_loop_reference(prompts):
    maps, truth, classes = prompts
    found = prompted_segmentation(maps, truth, classes)
    assert found.classes == ["bell", "cow", "dog"]
    scaled = resize_heatmaps((maps - maps.min()) / (maps.max() - maps.min()), (8, 10))
    for k, name in enumerate(found.classes):
        rows = [i for i, each in enumerate(classes) if each == name]
        pixels, true = scaled[rows].reshape(-1), truth[rows].reshape(-1)
        assert found.ap[k] == pytest.approx(average_precision_score(true, pixels), abs=1e-9)
        assert found.iou[k] == pytest.approx(reference_best_iou(pixels.tolist(), true.tolist()), abs=1e-9)
        chosen = pixels > found.threshold[k]
        assert (chosen & true).sum() / (chosen | true).sum() == pytest.approx(found.iou[k])
    assert found.map == pytest.approx(found.ap.mean())
    assert found.miou == pytest.approx(found.iou.mean())


def test_hand_made_case():
    """Class 7 pools two pictures; its thresholds are multiples of 0.05, and 0.4 selects 3 pixels, 2 of 3 true."""
    maps = np.array([[[0.95, 0.0]], [[0.5, 0.45]], [[0.2, 0.1]]])
    truth = np.array([[[1, 0]], [[0, 1]], [[0, 1]]])
    found = prompted_segmentation(maps, truth, [7, 7, 3])
    assert found.classes == [3, 7]
    # Class 7 in order: true, false, true, false: (1 + 2/3) / 2. Class 3: false, true: 1/2.
    assert found.ap.tolist() == pytest.approx([1 / 2, 5 / 6], abs=1e-6)
    # Above 0.4: 0.95, 0.5 and 0.45, two of them true: 2 of 3. Class 3: all above 0.1 misses; IoU 0.
    assert found.iou.tolist() == pytest.approx([0, 2 / 3], abs=1e-6)
    assert found.map == pytest.approx(2 / 3, abs=1e-6)
    assert found.miou == pytest.approx(1 / 3, abs=1e-6)


def test_pictures_are_not_normalized_one_by_one():
    """A picture of low scores throughout has its best place below all of another's."""
    maps = np.array([[[0.9, 0.8]], [[0.2, 0.1]]])
    truth = np.array([[[1, 1]], [[0, 0]]])
    found = prompted_segmentation(maps, truth, ["a", "a"])
    assert (found.map, found.miou) == (1, 1)
    alone = np.array([[[1.0, 0.0]], [[1.0, 0.0]]])
    assert prompted_segmentation(alone, truth, ["a", "a"]).map == pytest.approx(0.5)


def test_scale_and_offset_of_the_set_do_not_matter(prompts):
    maps, truth, classes = prompts
    found, moved = prompted_segmentation(maps, truth, classes), prompted_segmentation(4 * maps - 2, truth, classes)
    assert moved.ap.tolist() == pytest.approx(found.ap.tolist(), abs=1e-6)
    assert moved.iou.tolist() == pytest.approx(found.iou.tolist(), abs=1e-2)  # rounding may move a pixel over an edge


def test_degenerate_classes():
    flat = np.full((1, 2, 2), 0.3)
    half = np.array([[[1, 1], [0, 0]]])
    tied = prompted_segmentation(flat, half, ["a"])
    assert (tied.map, tied.miou) == (0.5, 0)  # all pixels tie: precision of the whole; nothing is above the highest
    empty = prompted_segmentation(half.astype(float), 0 * half, ["a"])
    assert (empty.map, empty.miou) == (0, 0)


def test_kinds_of_input_agree(prompts):
    maps, truth, classes = prompts
    names = np.unique(classes, return_inverse=True)[1]
    found = prompted_segmentation(torch.from_numpy(maps), torch.from_numpy(truth), torch.from_numpy(names))
    assert found.classes == [0, 1, 2]
    assert found.iou.tolist() == prompted_segmentation(maps, truth, classes).iou.tolist()


def test_prompted_refuses(prompts):
    maps, truth, classes = prompts
    with pytest.raises(ValueError, match=r"classes must be \(9,\), one for each map, got shape \(2,\)"):
        prompted_segmentation(maps, truth, classes[:2])
    with pytest.raises(ValueError, match="heatmaps and truth must hold the same samples"):
        prompted_segmentation(maps[:2], truth, classes)
