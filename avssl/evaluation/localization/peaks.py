"""Pointing game: does the peak of the map lie on the sounding object?

Source: Arandjelovic and Zisserman, "Objects that Sound", ECCV 2018, https://arxiv.org/abs/1712.06651.

Dimensions: N samples, h and w cells of a map, H and W pixels of the truth, P = H * W.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avssl.evaluation.localization.arrays import Array, as_given, as_pair
from avssl.evaluation.localization.chunks import chunks
from avssl.evaluation.localization.resizing import check_mode
from avssl.evaluation.localization.rules import MIN_MAX


def pointing(heatmap: Array, truth: Array, mode: str = "bilinear") -> float | Array:
    """Return 1 if the peak of a map lies on the truth, 0 otherwise, and the mean over the peaks if several tie.

    A constant map therefore scores the truth's share of the frame, like random pointing. Values within a
    millionth of the map's range tie, because rounding separates equal ones.

    Args:
        heatmap: (h, w), or (N, h, w).
        truth: (H, W), or (N, H, W); every pixel above 0 counts.
        mode: Resize to the size of the truth; see :func:`resize_heatmaps`.

    Returns:
        A float for one sample, else (N,) float64, in [0, 1]; 0 where the truth is empty.

    Raises:
        ValueError: On an unknown mode, different numbers of maps and truths, NaN, or truth outside [0, 1].

    Example:
        >>> pointing(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1, 1], [0, 0]]))
        0.5
    """
    check_mode(mode)
    maps, target = as_pair("heatmap", heatmap, truth)
    hits = [peak_hits(chunk.values(mode, MIN_MAX), chunk.truth) for chunk in chunks(maps, target)]
    return as_given(torch.cat(hits), heatmap)


def peak_hits(p: Tensor, truth: Tensor) -> Tensor:
    """Return (N,) float64 from min-max normalized (N, P) maps."""
    # If a peak cell touches the border of the frame, the pixels between its center and the border tie.
    peak = p >= p.amax(dim=1, keepdim=True) - 1e-6
    return (peak & (truth > 0)).sum(dim=1).double() / peak.sum(dim=1)
