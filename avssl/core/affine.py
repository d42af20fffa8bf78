"""A turn and a shrinking of pictures about their middle, drawn for a clip; the same for frames and for maps of them.

A view of a clip that is a turned copy of another, and a loss that turns the map of one view to compare it with that of
the other, draw the same turn from the clip's key, without telling each other.

Dimensions: B clips, H and W pixels or cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.draws import uniform
from avssl.core.errors import InputError


@dataclass(frozen=True)
class Affine:
    """One turn and one scale a clip."""

    angle: Tensor
    """(B,) radians, anticlockwise as one looks at the picture."""
    scale: Tensor
    """(B,) size of the turned picture beside what it was, > 0: below 1 it shrinks, and a margin remains."""

    def warp(self, pictures: Tensor, beyond: Literal["zeros", "border"] = "zeros") -> Tensor:
        """Turns and scales, with bilinear interpolation and half-pixel centers.

        There is no filter against aliasing: down to half the size, each pixel still takes part of two or more.

        Args:
            pictures: (B, ..., H, W), such as frames (B, 3, T, H, W) or maps (B, T, h, w).
            beyond: What lies outside the picture: 0, or its nearest pixel.

        Returns:
            Float32 of the same shape, contiguous.
        """
        height, width = pictures.shape[-2:]
        with torch.autocast(pictures.device.type, enabled=False):  # in bfloat16, positions would be off by pixels
            planes = pictures.float().reshape(len(pictures), -1, height, width)
            warped = F.grid_sample(planes, self._places(height, width), "bilinear", beyond, align_corners=False)
        return warped.view(pictures.shape)

    def support(self, height: int, width: int) -> Tensor:
        """(B, H, W) bool: where the middle of a pixel of a warped picture shows a place inside the picture."""
        # A place on the very edge is inside, whatever float32 makes of it.
        return (self._places(height, width).abs() <= 1 + 1e-5).all(dim=3)

    def _places(self, height: int, width: int) -> Tensor:
        """(B, H, W, 2) float32: the x and y, from -1 to 1, that each pixel of the result shows."""
        cos, sin = (self.angle.cos() / self.scale).float(), (self.angle.sin() / self.scale).float()
        zero, aspect = torch.zeros_like(cos), height / width
        rows = [torch.stack([cos, -sin * aspect, zero], dim=1), torch.stack([sin / aspect, cos, zero], dim=1)]
        return F.affine_grid(torch.stack(rows, dim=1), [len(cos), 1, height, width], align_corners=False)


@dataclass(frozen=True)
class RandomAffine:
    """How much pictures may turn and shrink.

    Raises:
        ValueError: If a number is out of its range.
    """

    max_degrees: float = 30.0
    """Largest turn either way, in [0, 180]."""
    scale: tuple[float, float] = (0.5, 1.0)
    """Lowest and highest size, 0 < low <= high <= 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_degrees <= 180:
            raise InputError(f"max_degrees ({self.max_degrees}) must be in [0, 180].")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise InputError(f"scale {tuple(self.scale)} must be (low, high) with 0 < low <= high <= 1.")

    def draw(self, key: Tensor) -> Affine:
        """The turn of each clip, uniform in both ranges: a pure function of its key, (B,) int64."""
        turn, size = uniform(key, "affine", 2).unbind(dim=1)
        low, high = self.scale
        return Affine(math.radians(self.max_degrees) * (2 * turn - 1), low + (high - low) * size)
