"""Prompted segmentation: a spoken word or a sound stands for a class, and the map must segment it.

The pixels of all images prompted with a class are pooled, so scores must be comparable between images, and maps
must not be normalized separately.

Source: Hamilton et al., "Separating the Chirp from the Chat" (DenseAV), CVPR 2024,
https://arxiv.org/abs/2406.05629, and its released evaluation on ADE20K.

Dimensions: N prompts, C classes, h and w cells of a map, H and W pixels, P pooled pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.classification import mean_average_precision
from avssl.evaluation.localization.arrays import Array, as_pair
from avssl.evaluation.localization.resizing import interpolate, min_max
from avssl.evaluation.localization.threshold_counts import count_above

NUM_THRESHOLDS = 20
"""Number of thresholds tried for the best IoU of a class."""


@dataclass(frozen=True, eq=False)
class PromptedSegmentation:
    """Results of :func:`prompted_segmentation`.

    Example:
        >>> maps, truth = np.stack([np.eye(2), np.eye(2)]), np.stack([np.eye(2), 1 - np.eye(2)])
        >>> found = prompted_segmentation(maps, truth, ["dog", "cat"])  # the map of the dog is right
        >>> found.classes, found.iou, found.miou
        (['cat', 'dog'], array([0., 1.]), 0.5)
    """

    map: float
    """Mean over the classes of the average precision of their pixels."""
    miou: float
    """Mean over the classes of the best IoU."""
    classes: list[int | str]
    """C, ascending."""
    ap: np.ndarray
    """(C,) float64."""
    iou: np.ndarray
    """(C,) float64."""
    threshold: np.ndarray
    """(C,) float64 threshold of the best IoU, relative to the lowest (0) and highest (1) score of the set."""


def prompted_segmentation(
    heatmaps: Array, truth: Array, classes: Sequence[int | str] | np.ndarray | Tensor
) -> PromptedSegmentation:
    """Compute mean average precision and mean IoU over the classes.

    Maps are min-max normalized over the **entire** set and resized to the size of the truth. For each class, over all
    pixels of its images: the average precision, and the best IoU of the pixels strictly above one of 20 thresholds from
    the lowest to the highest score. The threshold is chosen on the test set, as in the release.

    Args:
        heatmaps: (N, h, w) similarity of video and prompt. A constant set is left unchanged.
        truth: (N, H, W) masks of the prompted class; pixels above 0.5 count.
        classes: N numbers or names.

    Returns:
        The means and the values of each class. A class without true pixels scores 0.

    Raises:
        ValueError: If the lengths differ, or maps or truth are invalid.

    Example:
        >>> found = prompted_segmentation(np.eye(2)[None], np.eye(2)[None], ["dog"])
        >>> found.map, found.miou
        (1.0, 1.0)
    """
    maps, target = as_pair("heatmaps", heatmaps, truth)
    ids = np.asarray(classes)
    if ids.shape != (len(maps),):
        raise InputError(f"classes must be ({len(maps)},), one for each map, got shape {ids.shape}.")
    scaled = min_max(maps[None])[0]
    hw = (int(target.shape[1]), int(target.shape[2]))
    names = np.unique(ids)
    rows = []
    for name in names:
        of_class = np.flatnonzero(ids == name)
        pixels = interpolate(scaled[of_class], hw, "bilinear").cpu().numpy().reshape(-1)
        true = target[of_class].cpu().numpy().reshape(-1) > 0.5
        rows.append((_precision(pixels, true), *_best_iou(pixels, true)))
    ap, iou, threshold = np.array(rows, dtype=np.float64).T
    return PromptedSegmentation(float(ap.mean()), float(iou.mean()), names.tolist(), ap, iou, threshold)


def _precision(pixels: np.ndarray, true: np.ndarray) -> float:
    return mean_average_precision(pixels[:, None], true[:, None])[0] if true.any() else 0.0


def _best_iou(pixels: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Return the best IoU of (P,) pixels and its threshold, the lowest if several tie."""
    thresholds = np.linspace(float(pixels.min()), float(pixels.max()), NUM_THRESHOLDS)
    counts, hits = count_above(pixels, true, thresholds, strict=True)
    union = counts + true.sum() - hits
    iou = hits / np.where(union > 0, union, 1)
    return float(iou.max()), float(thresholds[iou.argmax()])
