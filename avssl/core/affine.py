"""Random rotation and scale of a clip about its center, for frames and for maps over them.

The transform that makes a view a rotated copy of another, and the loss that rotates the map of one view to compare it
with that of the other, draw the same rotation from the clip's key.

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
    """One rotation and one scale per clip."""

    angle: Tensor
    """(B,) radians, counterclockwise."""
    scale: Tensor
    """(B,) size of the result relative to the input, > 0; below 1, a margin remains."""

    def warp(self, images: Tensor, beyond: Literal["zeros", "border"] = "zeros") -> Tensor:
        """Rotate and scale, with bilinear interpolation and half-pixel centers.

        There is no filter against aliasing: down to half the size, bilinear interpolation still uses every pixel.

        Args:
            images: (B, ..., H, W), such as frames (B, 3, T, H, W) or maps (B, T, h, w).
            beyond: Value outside the image: 0, or its nearest pixel.

        Returns:
            Float32 of the same shape, contiguous.
        """
        height, width = images.shape[-2:]
        with torch.autocast(images.device.type, enabled=False):  # in bfloat16, positions would be off by pixels
            planes = images.float().reshape(len(images), -1, height, width)
            warped = F.grid_sample(planes, self._positions(height, width), "bilinear", beyond, align_corners=False)
        return warped.view(images.shape)

    def support(self, height: int, width: int) -> Tensor:
        """Return (B, H, W) bool, True for pixels of the result that come from inside the image."""
        # A position on the very edge is inside, despite rounding in float32.
        return (self._positions(height, width).abs() <= 1 + 1e-5).all(dim=3)

    def _positions(self, height: int, width: int) -> Tensor:
        """Return (B, H, W, 2) float32, the input x and y, from -1 to 1, of each pixel of the result."""
        cos, sin = (self.angle.cos() / self.scale).float(), (self.angle.sin() / self.scale).float()
        zero, aspect = torch.zeros_like(cos), height / width
        rows = [torch.stack([cos, -sin * aspect, zero], dim=1), torch.stack([sin / aspect, cos, zero], dim=1)]
        return F.affine_grid(torch.stack(rows, dim=1), [len(cos), 1, height, width], align_corners=False)


@dataclass(frozen=True)
class RandomAffine:
    """Range of random rotations and scales.

    Raises:
        ValueError: If a number is out of range.
    """

    max_degrees: float = 30.0
    """Largest rotation either way, in degrees, in [0, 180]."""
    scale: tuple[float, float] = (0.5, 1.0)
    """Lowest and highest scale, 0 < low <= high <= 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_degrees <= 180:
            raise InputError(f"max_degrees ({self.max_degrees}) must be in [0, 180].")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise InputError(f"scale {tuple(self.scale)} must be (low, high) with 0 < low <= high <= 1.")

    def draw(self, key: Tensor) -> Affine:
        """Draw a rotation and a scale for each clip, uniform in both ranges, from (B,) int64 keys."""
        turn, size = uniform(key, "affine", 2).unbind(dim=1)
        low, high = self.scale
        return Affine(math.radians(self.max_degrees) * (2 * turn - 1), low + (high - low) * size)
