"""Feature maps of an encoder's stages, made small enough to keep.

Probes of intermediate layers read maps pooled to a few cells, so that every layer offers about as
many numbers: AVID keeps 12 x 12, 8 x 8, 6 x 6 and 4 x 4 cells of its stages of 64, 128, 256 and 512
channels (https://arxiv.org/abs/2004.12943), the finest square grids of at most 9 216 numbers.

Dimensions: B clips, C channels; T', H', W' (video) or T', F' (audio) cells of a map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.models.blocks import Detail

_POOLS: dict[str, dict[Modality, Callable[..., Tensor]]] = {
    "max": {"video": F.adaptive_max_pool3d, "audio": F.adaptive_max_pool2d},
    "mean": {"video": F.adaptive_avg_pool3d, "audio": F.adaptive_avg_pool2d},
}


@dataclass(frozen=True)
class StagePooling:
    """Choice of the stages to keep, and their pooling.

    Raises:
        ValueError: If a number is below 1 or ``how`` is unknown.

    Example:
        >>> StagePooling().grid("video", (64, 8, 56, 56))  # 64 * 12 * 12 is 9216
        (1, 12, 12)
        >>> StagePooling().pool("video", torch.randn(2, 64, 8, 56, 56)).shape
        torch.Size([2, 64, 1, 12, 12])
    """

    last_stages: int | None = 4
    """Number of stages, counted from the end; an encoder with fewer returns all of its stages, as None does."""
    how: Literal["max", "mean"] = "max"
    """Adaptive pooling of the cells that fall into one."""
    max_features: int = 9216
    """The grid is the finest with as many cells along each axis whose C x cells is at most this. It is never
    finer than the map, and never less than one cell."""
    keep_time: bool = False
    """Keep time as an axis of a video's grid; otherwise it is pooled to one cell. Audio grids always keep it."""
    detail: Detail = "stages"
    """The stages of an encoder, or its blocks and the layers of the head."""

    def __post_init__(self) -> None:
        if min(1 if self.last_stages is None else self.last_stages, self.max_features) < 1:
            raise InputError(
                f"last_stages ({self.last_stages}) and max_features ({self.max_features}) must be at least 1."
            )
        if self.how not in ("max", "mean"):
            raise InputError(f'how ({self.how!r}) must be "max" or "mean".')

    def grid(self, modality: Modality, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of cells along each axis for a map of (C, T', H', W') or (C, T', F')."""
        channels, *cells = shape
        pooled = 1 if modality == "video" and not self.keep_time else 0
        axes = len(cells) - pooled
        # The root of a whole power may fall just short of it: 64 ** (1 / 3) is 3.9999999999999996.
        side = max(1, math.floor((self.max_features / channels) ** (1 / axes) + 1e-9))
        return (1,) * pooled + tuple(min(side, size) for size in cells[pooled:])

    def pool(self, modality: Modality, features: Tensor) -> Tensor:
        """Return (B, C, ...) float32 with the cells of :meth:`grid`; the (B, C) of a head's layer as they are."""
        if features.ndim == 2:
            return features.float()
        grid = self.grid(modality, tuple(features.shape[1:]))
        pooled: Tensor = _POOLS[self.how][modality](features.float(), grid)
        return pooled

    def pool_stages(self, modality: Modality, stages: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return :meth:`pool` of the last ``last_stages`` of stage maps that run from input to output, by name."""
        return {name: self.pool(modality, stages[name]) for name in list(stages)[-(self.last_stages or 0) :]}
