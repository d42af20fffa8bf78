"""Color scale of the maps of one video, and the map at any time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from avssl.core.batch import Heatmap
from avssl.core.errors import InputError
from avssl.core.ranges import Signed

Scale = Literal["video", "absolute"] | tuple[Signed, Signed]
"""``"video"``: from the median to the maximum of all maps of the video. ``"absolute"``: cosines 0 to 1, comparable
between videos. Or the two cosines."""


def color_limits(*heatmaps: Heatmap, scale: Scale = "video") -> tuple[float, float]:
    """Return the cosines of the lowest and the highest color of maps that are drawn together.

    Raises:
        InputError: If there is no map, or ``scale`` is not a scale.
    """
    if scale == "absolute":
        return 0.0, 1.0
    if scale == "video":
        if not any(heatmap.values.numel() for heatmap in heatmaps):
            raise InputError("there is no heat map, or it is empty: nothing sets the colors. Give at least one map.")
        values = torch.cat([heatmap.values.flatten() for heatmap in heatmaps])
        return values.median().item(), values.max().item()
    if isinstance(scale, str) or len(scale) != 2 or not scale[0] < scale[1]:
        raise InputError(f'scale ({scale!r}) must be "video", "absolute" or two ascending cosines.')
    return scale


def heat_at(heatmap: Heatmap, seconds: Tensor) -> Tensor:
    """Return (N, h, w): the map at any times, linear between its points in time and constant beyond."""
    at = heatmap.at_seconds
    after = torch.searchsorted(at, seconds.to(at)).clamp(1, max(len(at) - 1, 1)).clamp(max=len(at) - 1)
    before = (after - 1).clamp(min=0)
    gap = (at[after] - at[before]).clamp(min=1e-9)
    share = ((seconds.to(at) - at[before]) / gap).clamp(0, 1)
    return torch.lerp(heatmap.values[before], heatmap.values[after], share.float()[:, None, None])


def by_head(heatmap: Heatmap) -> list[Heatmap]:
    """Return the map of each head by itself; raise InputError if there is only one."""
    check_heads(1 if heatmap.head_values is None else heatmap.head_values.shape[1])
    assert heatmap.head_values is not None
    return [Heatmap(values, heatmap.at_seconds, values.amax(dim=(1, 2))) for values in heatmap.head_values.unbind(1)]


def check_heads(num_heads: int) -> None:
    """Raise if the model has only one head."""
    if num_heads < 2:
        raise InputError("the model has one head, so there are no maps of several heads to draw (--heads).")
