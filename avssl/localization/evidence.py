"""Distance from the peak of a heat map to the pixels that it depends on.

Contrast with the best cell of a map rewards the highest cosine, wherever its cell lies: a cell sees more of the frames
than its own patch, so that the best one may lie beside the object, or at another moment. The pixels that the cosine
depends on tell, by its gradient, without boxes or masks.

Dimensions: B clips, D embedding size, T frames, T', h and w cells.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from avssl.core.moments import unit_heads
from avssl.localization.similarity import sound_map


class MappingModel(Protocol):
    """Interface that :func:`evidence_offset` needs; :class:`~avssl.models.AVModel` implements it."""

    @property
    def num_heads(self) -> int: ...

    def visual_cells(self, video: Tensor, /) -> Tensor: ...

    def sound_queries(self, audio: Tensor, /) -> Tensor: ...


def evidence_offset(model: MappingModel, video: Tensor, audio: Tensor) -> Tensor:
    """Return the place where the evidence for the highest cell lies, seen from the middle of that cell.

    The cell is the best of the map in the middle of the clip. Its evidence is the center of the squared gradient of its
    cosine with the audio, over all pixels and frames. Single clips scatter, as edges draw the center to them; the mean
    over clips is near 0 for maps that lie where things are. Networks whose strides begin in the corner, as ResNets'
    do, have half a cell to the upper left before any training.

    Args:
        model: In evaluation mode; its gradients are left as they are.
        video: (B, 3, T, H, W) model input.
        audio: Model input of the same clips.

    Returns:
        (B, 3) float32: later, further down and further right, in cells.
    """
    with torch.enable_grad():
        pixels = video.detach().clone().requires_grad_(True)
        cells = unit_heads(model.visual_cells(pixels), model.num_heads).flatten(1, 2)
        with torch.no_grad():
            queries = model.sound_queries(audio)
        maps = sound_map(cells, queries, model.num_heads)  # (B, T', h, w)
        middle = maps.shape[1] // 2
        best = maps[:, middle].flatten(1).max(dim=1)
        (gradient,) = torch.autograd.grad(best.values.sum(), pixels)
    row, column = best.indices // maps.shape[3], best.indices % maps.shape[3]
    energy = gradient.float().square().sum(dim=1)  # (B, T, H, W)
    energy = energy / energy.sum(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    places = (torch.full_like(row, middle), row, column)
    offsets = []
    for axis, (place, count) in enumerate(zip(places, maps.shape[1:], strict=True), start=1):
        others = tuple(other for other in (1, 2, 3) if other != axis)
        size = video.shape[axis + 1]
        at = (torch.arange(size, device=energy.device) + 0.5) * count / size  # in cells
        offsets.append((energy.sum(dim=others) * at).sum(dim=1) - (place + 0.5))
    return torch.stack(offsets, dim=1)
