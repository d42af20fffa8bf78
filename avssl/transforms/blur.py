"""Gaussian blur of a whole batch, with a width for each clip.

The filter is separable and linear, so each clip has one small matrix per axis, as in a resize; widths never leave the
device. Equals torchvision.transforms.v2.functional.gaussian_blur, whose borders mirror the frame.

Dimensions: B clips, T frames, n pixels of an axis.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def blur_radius(max_sigma: float, size: int) -> int:
    """Return the pixels on either side of the center that the filter covers: three sigmas, within the frame."""
    return min(math.ceil(3 * max_sigma), size - 1)


def blur_weights(sigma: Tensor, radius: int, size: int) -> Tensor:
    """Return the filter of each clip as a matrix; borders mirror the frame without repeating its last pixel.

    Args:
        sigma: (B,) standard deviation in pixels; 0 leaves the clip as it is.
        radius: Pixels on either side of the center, < size; a filter has ``2 * radius + 1``.
        size: n.

    Returns:
        (B, n, n) float32; each row sums to 1.
    """
    offset = torch.arange(-radius, radius + 1, device=sigma.device)
    # A sigma of 0 would divide 0 by 0; a hundredth of a pixel has all of its weight in the center.
    width = sigma.double().clamp(min=0.01)[:, None]
    kernel = torch.exp(-0.5 * (offset / width).square())  # (B, 2 * radius + 1)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).float()
    source = (torch.arange(size, device=sigma.device)[:, None] + offset).abs()  # (n, 2 * radius + 1)
    source = torch.where(source >= size, 2 * (size - 1) - source, source)
    weights = torch.zeros(len(sigma), size, size, device=sigma.device)
    return weights.scatter_add_(2, source.expand(len(sigma), -1, -1), kernel[:, None].expand(-1, size, -1))


def gaussian_blur(video: Tensor, weights: Tensor) -> Tensor:
    """Blur (B, 3, T, n, n) float32 frames with the (B, n, n) matrices of :func:`blur_weights` along both axes."""
    matrices = weights[:, None, None]
    return matrices @ video @ matrices.transpose(-1, -2)
