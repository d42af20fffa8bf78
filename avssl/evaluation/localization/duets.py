"""Scores of the sources in mixtures: class-aware and permutation-invariant average precision of pixels.

Source: Hu, Chen and Owens, "Mix and Localize", CVPR 2022, https://arxiv.org/abs/2211.15058, which names CAP, PIAP and
CIoU@0.3 (a source is found if the cIoU of its map reaches 0.3).

Dimensions: N sources, h and w cells of a map, H and W pixels of the truth, S sources of one frame.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from avssl.core.errors import InputError
from avssl.evaluation.localization.arrays import Array, as_pair
from avssl.evaluation.localization.resizing import resize_heatmaps

CIOU_AT = 0.3
"""Smallest cIoU of a source that is found in a mixture."""


def pixel_precision(heatmaps: Array, truth: Array) -> np.ndarray:
    """Compute the average precision of the pixels of each map, ranked by their value.

    Args:
        heatmaps: (N, h, w) at any resolution and scale.
        truth: (N, H, W) in [0, 1]; pixels above 0 are the source.

    Returns:
        (N,) float64 in [0, 1]; 0 where the truth is empty.

    Raises:
        InputError: If the numbers differ, or a value is not finite.

    Example:
        >>> pixel_precision(np.array([[[2.0, 1.0], [0.0, 0.0]]]), np.array([[[1, 0], [0, 0]]]))
        array([1.])
    """
    maps, target = as_pair("heatmaps", heatmaps, truth)
    scores = torch.as_tensor(resize_heatmaps(maps, (int(target.shape[1]), int(target.shape[2])))).flatten(1).numpy()
    found = (target > 0).flatten(1).numpy()
    return np.array(
        [average_precision_score(t, s) if t.any() else 0.0 for t, s in zip(found, scores, strict=True)],
        dtype=np.float64,
    )


def class_mean(values: np.ndarray, classes: list[str]) -> float:
    """Return the mean over the classes of the mean of their sources.

    Raises:
        InputError: If there is no source, or the lengths differ.
    """
    if not len(values) or len(values) != len(classes):
        raise InputError(f"{len(values)} values of {len(classes)} sources have no mean by class.")
    of = np.array(classes)
    return float(np.mean([np.mean(values[of == name]) for name in sorted(set(classes))]))


def best_assignment(precision: np.ndarray) -> float:
    """Return the mean precision of the sources of a frame under the best assignment of maps to them.

    Args:
        precision: (S, S): map by source.
    """
    count = len(precision)
    return max(float(np.mean([precision[m, s] for s, m in enumerate(order)])) for order in permutations(range(count)))
