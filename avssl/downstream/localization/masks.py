"""Maps scored as pixel masks: AVSBench's mIoU and F, and prompted segmentation by class.

Both need the truth as pixels. AVSBench also counts images in which nothing sounds: their best mask is empty. Prompted
segmentation asks whether the audio of a class finds its pixels in all images of that class.

Dimensions: N instants with a mask, h and w cells, H and W pixels of the truth, K thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from avssl.core.manifest import Manifest
from avssl.downstream.localization.baselines import CENTER, WHOLE
from avssl.downstream.localization.instants import Instant
from avssl.downstream.localization.scores import Numbers
from avssl.evaluation import (
    avsbench_f_curves,
    avsbench_iou,
    best_f,
    center_blob,
    prompted_segmentation,
    resize_heatmaps,
    whole_frame,
)
from avssl.evaluation.localization.resizing import min_max

_PART = 64  # instants at a time: 64 truths of 224 x 224 are 13 MB


def mask_rows(maps: Mapping[str, Tensor], instants: Sequence[Instant]) -> dict[str, Numbers]:
    """Score maps as masks by AVSBench's measures; each map is min-max normalized by itself, as AVSBench does.

    Args:
        maps: Name of the row -> (M, h, w) of all instants.
        instants: All M, with or without a sounding object.

    Returns:
        Name of the row -> ``n``; ``miou``, the share selected above 0.5; ``f``, with one threshold for all; and
        ``f_by_video``, with one threshold for each row of the manifest, as AVSBench's released evaluator has it. Empty
        without masks.
    """
    places = [place for place, instant in enumerate(instants) if instant.is_mask]
    if not places:
        return {}
    rows = np.array([instants[place].row for place in places])
    iou: dict[str, list[Tensor]] = {}
    curves: dict[str, list[np.ndarray]] = {}
    for first in range(0, len(places), _PART):
        part = places[first : first + _PART]
        truth = (torch.stack([instants[place].truth() for place in part]) > 0).float()
        hw = (int(truth.shape[1]), int(truth.shape[2]))
        for name, values in _with_baselines(maps, part, hw).items():
            p = min_max(resize_heatmaps(values, hw))
            iou.setdefault(name, []).append(torch.as_tensor(avsbench_iou(p, truth)))
            curves.setdefault(name, []).append(avsbench_f_curves(p, truth))
    found = {}
    for name in iou:
        curve = np.concatenate(curves[name])  # (N, K)
        found[name] = {
            "n": float(len(places)),
            "miou": torch.cat(iou[name]).mean().item(),
            "f": best_f(curve),
            "f_by_video": float(np.mean([best_f(curve[rows == row]) for row in np.unique(rows)])),
        }
    return found


def prompted_rows(maps: Mapping[str, Tensor], instants: Sequence[Instant], manifest: Manifest) -> dict[str, Numbers]:
    """Score maps as segmentations prompted with the audio of a class.

    Args:
        maps: Name of the row -> (P, h, w).
        instants: P with a sounding object.
        manifest: Their rows; the class is the ``label`` where a row has one.

    Returns:
        Name of the row -> ``n``, ``num_classes``, ``map`` and ``miou``. Empty with fewer than two classes with masks.
    """
    labels = [manifest.value(instant.row, "label") if instant.is_mask else None for instant in instants]
    part = [place for place, label in enumerate(labels) if label and "|" not in label]
    classes = [str(labels[place]) for place in part]
    if len(set(classes)) < 2:
        return {}
    truth = torch.stack([instants[place].truth() > 0 for place in part])
    found = {}
    for name, values in _with_baselines(maps, part, (int(truth.shape[1]), int(truth.shape[2]))).items():
        result = prompted_segmentation(values, truth, classes)
        numbers = {"map": result.map, "miou": result.miou}
        found[name] = {"n": float(len(part)), "num_classes": float(len(result.classes)), **numbers}
    return found


def _with_baselines(maps: Mapping[str, Tensor], part: list[int], hw: tuple[int, int]) -> dict[str, Tensor]:
    """Return the maps of some instants, with two baselines."""
    baselines = {CENTER: center_blob(len(part), hw), WHOLE: whole_frame(len(part), hw)}
    return {name: values[part] for name, values in maps.items()} | baselines
