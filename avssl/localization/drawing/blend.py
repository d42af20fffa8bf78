"""Heat maps on frames, as (3, H, W) uint8 tensors."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.errors import InputError
from avssl.reports.figures import color_table

DIMMED_LUMA, DIMMED_COLOR = 0.9, 0.45
"""Share of the frame's own luma and color kept under a heat map, so that the map stands out."""


def overlay_image(
    frame: Tensor,
    heat: Tensor,
    *,
    scale: tuple[float, float] | Literal["own"] = "own",
    opacity: float = 0.7,
    colormap: str = "inferno",
    truth: Tensor | None = None,
    boxes: Tensor | None = None,
    upscale: int = 1,
) -> Tensor:
    """Draw one heat map on its frame.

    Args:
        frame: (3, H, W) uint8.
        heat: (h, w) map of the whole frame.
        scale: Values drawn as nothing and as full color. ``"own"`` is the map's minimum and maximum:
            it shows where the map points, but not how confidently, and must not be used to compare maps.
        opacity: Opacity of the full color, in [0, 1].
        colormap: A matplotlib name; perceptual ones do not invent edges.
        truth: (H, W) mask whose outline is drawn in white on black.
        boxes: (K, 4) left, top, right, bottom in pixels, half-open, drawn in the same way.
        upscale: Integer factor by which the frame is enlarged.

    Returns:
        (3, upscale * H, upscale * W) uint8.

    Raises:
        InputError: If a shape or value is out of range.

    Example:
        >>> frame, heat = torch.zeros(3, 48, 64, dtype=torch.uint8), torch.tensor([[0.0, 1.0]])
        >>> drawn = overlay_image(frame, heat, upscale=2)
        >>> drawn.shape, bool(drawn[:, :, 96:].sum() > drawn[:, :, :32].sum())
        (torch.Size([3, 96, 128]), True)
    """
    if frame.ndim != 3 or frame.shape[0] != 3 or frame.dtype != torch.uint8 or heat.ndim != 2:
        raise InputError(
            "frame must be (3, H, W) uint8 and heat (h, w), "
            f"got {tuple(frame.shape)} {frame.dtype} and {tuple(heat.shape)}."
        )
    if scale == "own":
        scale = (heat.min().item(), heat.max().item())
    picture = blend(enlarge(frame[None], upscale), heat[None], scale, opacity=opacity, colormap=colormap)[0]
    outline = torch.zeros(frame.shape[1:], dtype=torch.bool)
    outlines = [] if truth is None else [truth > 0]
    for left, top, right, bottom in [] if boxes is None else boxes.round().int().tolist():
        inside = torch.zeros_like(outline)
        inside[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
        outlines.append(inside)
    for mask in outlines:
        if mask.shape != outline.shape:
            raise InputError(f"truth must have the frame's size {tuple(outline.shape)}, got {tuple(mask.shape)}.")
        _draw_outline(picture, mask.repeat_interleave(upscale, 0).repeat_interleave(upscale, 1))
    return picture


def blend(
    frames: Tensor, heat: Tensor, scale: tuple[float, float], *, opacity: float = 0.7, colormap: str = "inferno"
) -> Tensor:
    """Draw T heat maps on T frames, all on one color scale.

    Color and opacity rise together, so low values show the frame, which loses half of its own color.

    Args:
        frames: (T, 3, H, W) uint8.
        heat: (T, h, w).
        scale: Values drawn as nothing and as full color; nothing is drawn if they are equal.
        opacity: Opacity of the full color, in [0, 1].
        colormap: A matplotlib name.

    Returns:
        (T, 3, H, W) uint8.
    """
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity ({opacity}) must be in [0, 1].")
    low, high = scale
    level = torch.zeros_like(heat) if high <= low else (heat - low) / (high - low)
    # Bicubic, for display only: bilinear shows the cells as diamonds. Scores use another resize.
    level = resize_image(level[:, None].float(), (frames.shape[2], frames.shape[3]))
    level = level.clamp_(0, 1)  # (T, 1, H, W)
    color = color_table(colormap)[(level[:, 0] * 255).round().long()].movedim(-1, 1)  # (T, 3, H, W)
    picture = frames.float()
    gray = (picture * torch.tensor([0.2126, 0.7152, 0.0722])[:, None, None]).sum(dim=1, keepdim=True)  # BT.709
    base = DIMMED_COLOR * picture + (DIMMED_LUMA - DIMMED_COLOR) * gray
    return torch.lerp(base, color, opacity * level).round_().clamp_(0, 255).byte()


def enlarge(frames: Tensor, factor: int) -> Tensor:
    """Enlarge (T, 3, H, W) uint8 frames by an integer factor, smoothly."""
    if factor < 1:
        raise InputError(f"upscale ({factor}) must be a whole number of at least 1.")
    if factor == 1:
        return frames
    return resize_image(frames, (factor * frames.shape[2], factor * frames.shape[3]))


def resize_image(images: Tensor, hw: tuple[int, int]) -> Tensor:
    """Resize (B, C, H, W) images, bicubically."""
    # The antialiasing kernel is the same when enlarging, and 4 to 6 times as fast as the plain one.
    return F.interpolate(images, size=hw, mode="bicubic", antialias=True)


def _draw_outline(picture: Tensor, mask: Tensor) -> None:
    """Draw a white outline just inside a mask, in place, with a black one around it."""
    inner = ~_grow(~mask, 1)
    picture[:, _grow(mask, 1) & ~mask] = 0
    picture[:, mask & ~inner] = 255


def _grow(mask: Tensor, pixels: int) -> Tensor:
    return F.max_pool2d(mask[None].float(), 2 * pixels + 1, stride=1, padding=pixels)[0] > 0
