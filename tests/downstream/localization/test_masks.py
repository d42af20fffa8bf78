"""AVSBench's measures and prompted segmentation of the maps of a table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avssl.core.manifest import Manifest
from avssl.downstream.localization import masks as module
from avssl.downstream.localization.instants import Instant
from avssl.downstream.localization.masks import mask_rows, prompted_rows
from avssl.evaluation import avsbench_f_curves, avsbench_iou, best_f, prompted_segmentation


@pytest.fixture
def truth():
    """Six masks of three rows; nothing sounds in the last."""
    truth = torch.zeros(6, 8, 8)
    for number in range(5):
        truth[number, number : number + 3, 1:5] = 1
    return truth


def instants_of(truth, is_mask=True):
    return [
        Instant(number // 2, number % 2, None, mask.clone, (8, 8), bool(mask.any()), is_mask)
        for number, mask in enumerate(truth)
    ]


def test_exact_maps_are_exact_and_a_map_of_everything_is_not(truth):
    found = mask_rows({"exact": truth}, instants_of(truth))
    exact, whole = found["exact"], found["whole frame"]
    assert exact["n"] == 6
    assert exact["miou"] == pytest.approx(1, abs=1e-6)
    assert exact["f"] == exact["f_by_video"] == pytest.approx(1)
    assert whole["miou"] == pytest.approx((5 * 12 / 64 + 0) / 6, abs=1e-6)
    assert "center blob" in found


def test_parts_score_as_the_whole_and_videos_have_thresholds_of_their_own(truth, monkeypatch):
    maps = torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(0)) + truth / 2
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    p = (maps - low) / (high - low)
    curves = avsbench_f_curves(p, truth)
    monkeypatch.setattr(module, "_PART", 4)
    found = mask_rows({"x": maps}, instants_of(truth))["x"]
    assert found["miou"] == pytest.approx(avsbench_iou(p, truth).mean().item())
    assert found["f"] == pytest.approx(best_f(curves))
    assert found["f_by_video"] == pytest.approx(np.mean([best_f(curves[first : first + 2]) for first in (0, 2, 4)]))
    assert found["f_by_video"] >= found["f"]


def test_prompts_are_the_labels_of_the_rows(truth):
    maps = torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(0)) + truth
    rows = Manifest.from_columns({"id": list("abc"), "path": list("abc"), "label": ["dog", "cow", "dog"]}, ".")
    found = prompted_rows({"x": maps[:5]}, instants_of(truth)[:5], rows)["x"]
    expected = prompted_segmentation(maps[:5], truth[:5], ["dog", "dog", "cow", "cow", "dog"])
    assert (found["map"], found["miou"]) == (expected.map, expected.miou)
    assert (found["n"], found["num_classes"]) == (5, 2)
    one = Manifest.from_columns({"id": list("abc"), "path": list("abc"), "label": ["dog", "dog|cow", None]}, ".")
    assert prompted_rows({"x": maps[:5]}, instants_of(truth)[:5], one) == {}


def test_boxes_are_no_masks(truth):
    instants = instants_of(truth, is_mask=False)
    rows = Manifest.from_columns({"id": list("abc"), "path": list("abc"), "label": ["dog", "cow", "dog"]}, ".")
    assert mask_rows({"x": truth}, instants) == {}
    assert prompted_rows({"x": truth}, instants, rows) == {}
