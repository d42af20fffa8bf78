"""Crop, flip and resize a whole batch of clips of different shapes in one resampling.

An antialiased bilinear resize is separable and linear, so each clip has one small matrix per axis,
which holds crop, flip and filter, and the batch takes two batched matrix products:

    output[i, j] = sum_y sum_x rows[i, y] * canvas[y, x] * columns[j, x]

The matrices hold the triangle filter of ``torch.nn.functional.interpolate(mode="bilinear",
antialias=True)``, so the result equals that of torchvision's ``resized_crop(antialias=True)`` on each
clip alone. Pixels of the canvas outside a crop have weight 0: padding has no influence.

Dimensions: B clips, T frames, H and W pixels of the canvas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from avssl.core.draws import uniform

_NUM_TRIES = 10  # as in torchvision's RandomResizedCrop


@dataclass(frozen=True)
class Crops:
    """A rectangle in each clip, in pixels of the canvas: rows [top, top + height)."""

    corner: Tensor
    """(B, 2) int64 top and left, >= 0."""
    sides: Tensor
    """(B, 2) int64 height and width, >= 1."""

    @property
    def top(self) -> Tensor:
        """(B,)."""
        return self.corner[:, 0]

    @property
    def left(self) -> Tensor:
        """(B,)."""
        return self.corner[:, 1]

    @property
    def height(self) -> Tensor:
        """(B,)."""
        return self.sides[:, 0]

    @property
    def width(self) -> Tensor:
        """(B,)."""
        return self.sides[:, 1]


@dataclass(frozen=True)
class AxisResize:
    """A resize along one axis of each clip: pixels [start, start + length) to ``resized`` pixels.

    The output holds those from ``offset`` on, so that a resize followed by a center crop is one resampling too.
    """

    start: Tensor
    """(B,) int64, >= 0."""
    length: Tensor
    """(B,) int64, >= 1."""
    resized: Tensor | int
    """(B,) int64, >= 1, or one for all clips."""
    offset: Tensor | int = 0
    """(B,) int64, >= 0, or one for all clips."""


def random_crops(
    valid_hw: Tensor,
    key: Tensor,
    view: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    purpose: str = "crop",
) -> Crops:
    """Draw random rectangles by the rule of torchvision's ``RandomResizedCrop``.

    Ten tries of an area and an aspect ratio; the first that fits is placed uniformly. If none fits,
    the result is the largest centered rectangle of an allowed ratio.

    Args:
        valid_hw: (B, 2) int64 height and width of each clip in pixels.
        key: (B,) int64 random key of each clip.
        view: Number of the view, >= 0; views differ.
        scale: Lowest and highest fraction of the clip's area.
        ratio: Lowest and highest width / height; drawn uniformly in its logarithm.
        purpose: Purpose of the random numbers; those of different purposes are independent.
    """
    # Heights and widths are computed side by side: on a GPU each of these operations is a launch of hardly any work.
    valid = valid_hw.double()
    height, width = valid.unbind(1)
    draws = uniform(key, f"{purpose}/{view}", _NUM_TRIES * 4).view(-1, _NUM_TRIES, 4)
    area = (height * width)[:, None] * (scale[0] + (scale[1] - scale[0]) * draws[..., 0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * draws[..., 1])
    tries = torch.stack([area / aspect, area * aspect], dim=2).sqrt_().round_()  # (B, tries, 2)
    fits = ((tries >= 1) & (tries <= valid[:, None])).all(dim=2)
    first = fits.int().argmax(dim=1, keepdim=True)[..., None].expand(-1, 1, 2)

    sides, place = tries.gather(1, first)[:, 0], draws[..., 2:].gather(1, first)[:, 0]
    corner = (place * (valid - sides + 1)).floor_()
    found = fits.any(dim=1)[:, None]
    center_corner, center_sides = _center_crops(valid, ratio)
    return Crops(
        torch.where(found, corner, center_corner).long(),
        torch.where(found, sides, center_sides).long(),
    )


def _center_crops(valid: Tensor, ratio: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return (B, 2) corners and sides of the largest centered rectangles whose ratio is in range."""
    height, width = valid.unbind(1)
    aspect = width / height
    crop_height = torch.where(aspect < ratio[0], (width / ratio[0]).round_(), height)
    crop_width = torch.where(aspect > ratio[1], (height * ratio[1]).round_(), width)
    sides = torch.stack([crop_height, crop_width], dim=1)
    return ((valid - sides) / 2).floor_(), sides


def crop_weights(crops: Crops, size: int, canvas_hw: tuple[int, int], flip: Tensor) -> tuple[Tensor, Tensor]:
    """Return the filters of rows and of columns that resize crops to squares, in half of the launches for both.

    Args:
        crops: The crop of each clip.
        size: Height and width of the output in pixels.
        canvas_hw: Height and width of the canvas.
        flip: (B,) bool, True for clips mirrored left and right.

    Returns:
        Two of (B, size, canvas pixels) float32, as :func:`resampling_weights` does.
    """
    height, width = canvas_hw
    # A compiled program fuses each by itself, for canvases of any size. On a CPU a longer axis would change the order
    # in which the weights of the shorter are added up.
    if torch.compiler.is_compiling() or (height != width and flip.device.type == "cpu"):
        down, across = (AxisResize(crops.corner[:, axis], crops.sides[:, axis], size) for axis in (0, 1))
        return resampling_weights(down, size, height), resampling_weights(across, size, width, flip)
    both = AxisResize(crops.corner.T.flatten(), crops.sides.T.flatten(), size)
    weights = resampling_weights(both, size, max(height, width), torch.cat([torch.zeros_like(flip), flip]))
    rows, columns = weights.chunk(2)
    return rows[..., :height], columns[..., :width]


def resampling_weights(
    axis: AxisResize,
    size: int,
    canvas_size: int,
    flip: Tensor | None = None,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    antialias: bool = True,
) -> Tensor:
    """Return the filter of a resize, as one matrix per clip.

    Args:
        axis: The resize of each clip.
        size: Number of output pixels.
        canvas_size: Number of canvas pixels.
        flip: (B,) bool, True for clips mirrored along this axis; None for none.
        interpolation: Triangle filter, or the cubic one of Keys, 1981, with a = -0.5.
        antialias: Widen the filter where the resize makes frames smaller; otherwise an output pixel is interpolated
            from its nearest input pixels.

    Returns:
        (B, size, canvas_size) float32; each row sums to 1.
    """
    start, length, resized, offset = (
        t if isinstance(t, int) else t.float()[:, None] for t in (axis.start, axis.length, axis.resized, axis.offset)
    )
    assert isinstance(start, Tensor), "one of each clip"
    assert isinstance(length, Tensor), "one of each clip"
    output = torch.arange(size, device=start.device, dtype=torch.float32).expand(len(start), -1)
    if flip is not None:
        output = torch.where(flip[:, None], size - 1 - output, output)
    scale = length / resized
    # Measured from the crop's edge, not the canvas's: float32 keeps the position to 1e-5 of a pixel.
    center = scale * (output + (offset + 0.5))
    pixel = torch.arange(canvas_size, device=start.device, dtype=torch.float32) + 0.5 - start
    inside = (pixel > 0) & (pixel < length)
    distance = (pixel[:, None, :] - center[..., None]).abs_()
    if antialias:
        distance /= scale.clamp(min=1)[..., None]
    shape = (1 - distance).clamp_(min=0) if interpolation == "bilinear" else _cubic(distance)
    weights = shape * inside[:, None, :]
    return weights / weights.sum(dim=2, keepdim=True)


def _cubic(distance: Tensor) -> Tensor:
    """Return the cubic filter at distances >= 0."""
    near = (1.5 * distance - 2.5) * distance.square() + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def resample(video: Tensor, rows: Tensor, columns: Tensor, gain: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Apply the matrices of :func:`resampling_weights` to a canvas, and a gain and a bias to each channel.

    In bfloat16 the result is off by less than 0.4 of 255 levels in root mean square (tests/transforms/test_video.py),
    about the rounding of a resize that ends in uint8. To this end levels are measured from the middle of their range:
    the farther from 0, the coarser bfloat16 is.

    Args:
        video: (B, T, 3, H, W) uint8.
        rows: (B, h, H) float32; each row sums to 1, as do those of ``columns``.
        columns: (B, w, W) float32.
        gain: (3,) float32: output per level in each channel.
        bias: (3,) float32: output at level 0.
        dtype: Type of the products: ``torch.float32`` or ``torch.bfloat16``.

    Returns:
        (B, 3, T, h, w) of this dtype, ``gain * level + bias``; a permuted view, not contiguous.
    """
    batch, frames, channels, height, width = video.shape
    out_height, out_width = rows.shape[1], columns.shape[1]
    levels = video.bitwise_xor(128).view(torch.int8)  # video - 128, still in 8 bits
    x = levels.permute(0, 2, 3, 1, 4).to(dtype, memory_format=torch.contiguous_format)  # (B, 3, H, T, W)
    x = rows.to(dtype)[:, None] @ x.view(batch, channels, height, -1)
    scaled = (columns[:, None] * gain[:, None, None]).to(dtype).view(-1, out_width, width)
    offset = (bias + 128 * gain).to(dtype).repeat(batch)[:, None, None]
    x = torch.baddbmm(offset, x.view(-1, out_height * frames, width), scaled.transpose(1, 2))
    return x.view(batch, channels, out_height, frames, out_width).permute(0, 1, 3, 2, 4)
