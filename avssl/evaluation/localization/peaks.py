"""Pointing: does the highest place of the map lie on what sounds?

Source: Arandjelovic and Zisserman, "Objects that Sound", ECCV 2018, https://arxiv.org/abs/1712.06651.

Dimensions: N samples, h and w cells of a map, H and W pixels of the truth, P = H * W.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avssl.evaluation.localization.arrays import Array, answer, as_pair
from avssl.evaluation.localization.chunks import chunks
from avssl.evaluation.localization.resizing import check_mode
from avssl.evaluation.localization.rules import MIN_MAX


def pointing(heatmap: Array, truth: Array, mode: str = "bilinear") -> float | Array:
    """Whether the peak of each map lies on the truth; the expectation over the peaks where several tie.

    A constant map therefore scores the truth's share of the frame, as pointing at random does. Peaks
    within a millionth of the map's range are ties, as rounding parts equal ones.

    Args:
        heatmap: (h, w), or (N, h, w).
        truth: (H, W), or (N, H, W); every pixel above 0 counts.
        mode: Of the resize to the truth's size; see :func:`resize`.

    Returns:
        A float for one sample, else (N,) float64, in [0, 1]; 0 where the truth is empty.

    Raises:
        ValueError: On an unknown mode, maps and truths of different number, NaN, or truth outside [0, 1].

    Example:
        >>> pointing(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1, 1], [0, 0]]))
        0.5
    """
    check_mode(mode)
    maps, target = as_pair("heatmap", heatmap, truth)
    hits = [peak_hits(chunk.values(mode, MIN_MAX), chunk.truth) for chunk in chunks(maps, target)]
    return answer(torch.cat(hits), heatmap)


def peak_hits(p: Tensor, truth: Tensor) -> Tensor:
    """(N,) float64 from min-max normalized (N, P) maps."""
    # The map is in [0, 1] or constant: within 1e-6 of the top is a tie but for rounding. Where a
    # peak cell touches the frame, the pixels between its center and the edge tie.
    peak = p >= p.amax(dim=1, keepdim=True) - 1e-6
    return (peak & (truth > 0)).sum(dim=1).double() / peak.sum(dim=1)
