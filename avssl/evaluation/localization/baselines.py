"""Heat maps that have seen or heard nothing: the rows without which a localization table means little.

On VGG-SS a blob in the center reaches what several published models do. Each function returns maps
to be scored exactly as a model's.

Dimensions: N samples, O object slots, H and W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avssl.core import draws
from avssl.core.errors import InputError


def random_maps(count: int, hw: tuple[int, int] = (7, 7), *, seed: int = 0) -> Tensor:
    """(count, h, w) float32: uniform noise on each cell of a model's grid."""
    noise = draws.uniform(_keys(count, seed), "localization_baselines.random_maps", hw[0] * hw[1])
    return noise.view(count, *hw).float()


def center_blob(count: int, hw: tuple[int, int]) -> Tensor:
    """(count, H, W) float32: a Gaussian in the middle, a quarter of each side wide.

    Rules that follow the order of the values (median, area) see an ellipse of the frame's shape;
    its width matters only to fixed thresholds.
    """
    y, x = ((torch.arange(side) + 0.5) / side - 0.5 for side in hw)
    distance = y.square()[:, None] + x.square()[None]
    return torch.exp(-distance / (2 * 0.25**2)).expand(count, -1, -1)


def whole_frame(count: int, hw: tuple[int, int]) -> Tensor:
    """(count, H, W) float32 of ones. Strict rules select nothing of it, inclusive ones everything."""
    return torch.ones(1, 1, 1).expand(count, *hw)


def mean_prior(held_out_masks: Tensor, count: int) -> Tensor:
    """(count, H, W) float32: how often each pixel sounds in *other* samples.

    Args:
        held_out_masks: (M, H, W) truth in [0, 1] of samples that are not scored.
        count: Number of maps.
    """
    if held_out_masks.ndim != 3 or len(held_out_masks) == 0:
        raise InputError(f"held_out_masks must be (M, H, W) with M > 0, got {tuple(held_out_masks.shape)}.")
    return held_out_masks.float().mean(dim=0).expand(count, -1, -1)


def random_object(object_masks: Tensor, *, seed: int = 0, first: int = 0) -> tuple[Tensor, Tensor]:
    """Points at one object of each scene, drawn uniformly: seeing everything, hearing nothing.

    Args:
        object_masks: (N, O, H, W) bool; scenes with fewer than O objects have empty slots, which
            are never drawn.
        seed: Of the draw.
        first: Number of the first scene, so that the parts of a set draw what the whole would.

    Returns:
        Maps (N, H, W) float32 that rank the pixels of the drawn object before all others and, on
        both sides of its outline, nearer ones to its middle before farther ones: the peak lies in the
        object, a fixed threshold selects exactly the object, and the area rule as much of it as it may.
        A plain mask would not do: its values tie, and strict rules would select nothing.
        And the drawn slots, (N,) int64.

    Raises:
        ValueError: If a scene shows no object.
    """
    if object_masks.ndim != 4:
        raise InputError(f"object_masks must be (N, O, H, W), got {tuple(object_masks.shape)}.")
    masks = object_masks.bool()
    visible = masks.flatten(2).any(dim=2)  # (N, O)
    if not visible.any(dim=1).all():
        row = int((~visible.any(dim=1)).nonzero()[0])
        raise InputError(
            f"object_masks show no object in {int((~visible.any(dim=1)).sum())} scenes, first in row {row}."
        )
    # The largest of O independent draws, empty slots left out: uniform over the visible objects.
    lots = draws.uniform(_keys(len(masks), seed, first), "localization_baselines.random_object", masks.shape[1])
    drawn = lots.to(masks.device).masked_fill(~visible, -1).argmax(dim=1)
    return _object_maps(masks[torch.arange(len(masks), device=masks.device), drawn]), drawn


def _object_maps(mask: Tensor) -> Tensor:
    """(N, H, W) masks to maps in (2/3, 1] inside and [0, 1/3] outside, falling with the distance to the middle."""
    height, width = mask.shape[1:]
    y = torch.arange(height, device=mask.device, dtype=torch.float32)[:, None]
    x = torch.arange(width, device=mask.device, dtype=torch.float32)[None]
    area = mask.sum(dim=(1, 2))
    center_y, center_x = ((mask * axis).sum(dim=(1, 2)) / area for axis in (y, x))
    # A fraction of a pixel aside: around an exact center up to eight pixels tie, and strict rules drop all of them.
    distance = torch.hypot(y - center_y[:, None, None] - 0.19, x - center_x[:, None, None] - 0.31)
    nearness = 1 - distance / (height**2 + width**2) ** 0.5
    return (nearness + 2 * mask) / 3


def _keys(count: int, seed: int, first: int = 0) -> Tensor:
    return draws.clip_key(seed, 0, torch.arange(first, first + count))
