"""IoU and F-measure of masks, as AVSBench defines them.

Source: Zhou et al., "Audio-Visual Segmentation", ECCV 2022, https://arxiv.org/abs/2207.05042, and its released
evaluator (subsets S4 and MS3). CAVP pools intersections over the whole set instead and gets higher numbers.

Dimensions: N images, H and W pixels, K = 255 thresholds.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.localization.arrays import Array, as_given, as_pair
from avssl.evaluation.localization.threshold_counts import count_above

EPSILON = 1e-7
"""Added to the union, so that an exact match scores slightly below 1."""

BETA_SQUARED = 0.3
"""Weight of recall relative to precision in F."""

F_THRESHOLDS = np.linspace(0, 1 - 1e-10, 255)


def avsbench_iou(scores: Array, truth: Array, threshold: float = 0.5) -> float | Array:
    """Compute the IoU of each image's mask with its truth; AVSBench's J is the mean.

    Args:
        scores: (H, W), or (N, H, W): probabilities. Heat maps are min-max normalized first, each by itself.
        truth: As many masks of the same size, in [0, 1].
        threshold: Pixels above it are selected.

    Returns:
        A float for one image, else (N,) float64: intersection / (union + 1e-7); where the truth is empty, the share of
        the image that is not selected.

    Raises:
        InputError: If sizes differ, or scores or truth lie outside [0, 1].

    Example:
        >>> round(avsbench_iou(np.array([[0.9, 0.9], [0.1, 0.1]]), np.array([[1, 0], [0, 0]])), 6)
        0.5
    """
    p, target = _same_size(scores, truth)
    selected, g = (p > threshold).double().flatten(1), target.double().flatten(1)
    empty = g.sum(dim=1) == 0
    hit = torch.where(empty, (1 - selected).sum(dim=1), (selected * g).sum(dim=1))
    union = torch.where(empty, float(g.shape[1]), torch.maximum(selected, g).sum(dim=1))
    return as_given(hit / (union + EPSILON), scores)


def avsbench_f_curves(scores: Array, truth: Array) -> np.ndarray:
    """Compute F = 1.3 P R / (0.3 P + R) of each image at each threshold, which selects the pixels from it on.

    Args:
        scores: As in :func:`avsbench_iou`.
        truth: As in :func:`avsbench_iou`.

    Returns:
        (N, K) float64; NaN where the truth is empty.

    Raises:
        InputError: As :func:`avsbench_iou`.

    Example:
        >>> curves = avsbench_f_curves(np.array([[0.9, 0.1]]), np.array([[1, 0]]))
        >>> curves[0, [0, 127]].round(4)  # threshold 0 selects both pixels: 1.3 * 0.5 / (0.3 * 0.5 + 1)
        array([0.5652, 1.    ])
    """
    p, target = _same_size(scores, truth)
    curves = np.full((len(p), len(F_THRESHOLDS)), np.nan)
    for curve, values, g in zip(curves, p.flatten(1).cpu().numpy(), target.flatten(1).cpu().numpy(), strict=True):
        area = g.sum(dtype=np.float64)
        if area > 0:
            counts, hits = count_above(values, g, F_THRESHOLDS, strict=False)
            precision, recall = hits / np.maximum(counts, 1), hits / area
            below = BETA_SQUARED * precision + recall
            curve[:] = (1 + BETA_SQUARED) * precision * recall / np.where(below > 0, below, 1)
    return curves


def best_f(curves: np.ndarray) -> float:
    """Return the F-measure of a set: the best of the thresholds, one for all images whose truth is not empty.

    Over the whole test set it is the number of ACL-SSL. AVSBench's evaluator takes the mean over batches of one video
    (five images) instead: each has its own threshold, so the number is higher.

    Args:
        curves: (N, K) from :func:`avsbench_f_curves`.

    Returns:
        A number in [0, 1]; 0 if every truth is empty, as in the release.

    Example:
        >>> best_f(np.array([[1.0, 0.5], [0.0, 1.0], [np.nan, np.nan]]))  # the second threshold: (0.5 + 1) / 2
        0.75
    """
    known = curves[~np.isnan(curves[:, 0])]
    return float(known.mean(axis=0).max()) if len(known) else 0.0


def _same_size(scores: Array, truth: Array) -> tuple[Tensor, Tensor]:
    """Return (N, H, W) probabilities and truth."""
    values, target = as_pair("scores", scores, truth)
    if values.shape != target.shape:
        raise InputError(
            f"scores {tuple(values.shape[1:])} must have the size of truth {tuple(target.shape[1:])}: resize them."
        )
    if values.min() < 0 or values.max() > 1:
        raise InputError(
            f"scores must be probabilities in [0, 1], got {values.min().item():g} to {values.max().item():g}."
        )
    return values, target
