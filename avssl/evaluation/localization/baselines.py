"""Baseline heat maps that use neither image nor audio, or the objects only.

On VGG-SS a blob in the center scores as high as several published models. The maps are scored exactly as a model's.

Dimensions: N samples, O object slots, H and W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avssl.core import draws
from avssl.core.errors import InputError


def random_maps(count: int, hw: tuple[int, int] = (7, 7), *, seed: int = 0) -> Tensor:
    """Return (count, h, w) float32 uniform noise on the cells of a model's grid.

    Example:
        >>> random_maps(2).shape, torch.equal(random_maps(2), random_maps(2))
        (torch.Size([2, 7, 7]), True)
    """
    noise = draws.uniform(_keys(count, seed), "localization_baselines.random_maps", hw[0] * hw[1])
    return noise.view(count, *hw).float()


def center_blob(count: int, hw: tuple[int, int]) -> Tensor:
    """Return (count, H, W) float32: a Gaussian in the center with a standard deviation of a quarter of each side.

    For rules that depend on the order of the values (median, area) it is an ellipse of the frame's shape; its
    width matters only for fixed thresholds.

    Example:
        >>> blob = center_blob(1, (3, 5))[0]
        >>> blob[1, 2].item(), blob.argmax().item()
        (1.0, 7)
    """
    y, x = ((torch.arange(side) + 0.5) / side - 0.5 for side in hw)
    distance = y.square()[:, None] + x.square()[None]
    return torch.exp(-distance / (2 * 0.25**2)).expand(count, -1, -1)


def whole_frame(count: int, hw: tuple[int, int]) -> Tensor:
    """Return (count, H, W) float32 ones, of which strict rules select nothing and inclusive rules everything.

    Example:
        >>> frame, truth = whole_frame(1, (2, 2))[0], torch.tensor([[1, 0], [0, 0]])
        >>> ciou(frame, truth, "ezvsl"), ciou(frame, truth, "lvs")  # inclusive, strict
        (0.25, 0.0)
    """
    return torch.ones(1, 1, 1).expand(count, *hw)


def mean_prior(held_out_masks: Tensor, count: int) -> Tensor:
    """Return (count, H, W) float32: the mean truth of *other* samples.

    Args:
        held_out_masks: (M, H, W) truth in [0, 1] of samples that are not scored.
        count: Number of maps, all the same.

    Raises:
        ValueError: If ``held_out_masks`` are not (M, H, W), or there are none.

    Example:
        >>> mean_prior(torch.tensor([[[1, 0]], [[1, 1]]]), count=3)[0]
        tensor([[1.0000, 0.5000]])
    """
    if held_out_masks.ndim != 3 or len(held_out_masks) == 0:
        raise InputError(f"held_out_masks must be (M, H, W) with M > 0, got {tuple(held_out_masks.shape)}.")
    return held_out_masks.float().mean(dim=0).expand(count, -1, -1)


def random_object(object_masks: Tensor, *, seed: int = 0, first: int = 0) -> tuple[Tensor, Tensor]:
    """Return maps of one random object of each scene, which use the image but not the audio.

    Args:
        object_masks: (N, O, H, W) bool; scenes with fewer than O objects have empty slots, which are never chosen.
        seed: Random seed of the choice.
        first: Number of the first scene, so that parts of a set get the same objects as the whole.

    Returns:
        (N, H, W) float32 maps and the (N,) int64 slots of the objects. The pixels of the object rank above all
        others and, inside and outside, pixels near its center above farther ones: the peak lies in the object,
        a fixed threshold selects exactly the object, and the area rule as much of it as possible. In a plain
        mask the values would tie, and strict rules would select nothing.

    Raises:
        ValueError: If ``object_masks`` have another shape, or a scene shows no object.

    Example:
        >>> masks = torch.zeros(1, 2, 3, 3, dtype=torch.bool)
        >>> masks[0, 1, 0, 2] = True  # the only object: slot 1, in the upper right corner
        >>> maps, slots = random_object(masks)
        >>> slots, maps[0].argmax()
        (tensor([1]), tensor(2))
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
    # The largest of O independent draws, without empty slots, is uniform over the visible objects.
    lots = draws.uniform(_keys(len(masks), seed, first), "localization_baselines.random_object", masks.shape[1])
    drawn = lots.to(masks.device).masked_fill(~visible, -1).argmax(dim=1)
    return _object_maps(masks[torch.arange(len(masks), device=masks.device), drawn]), drawn


def _object_maps(mask: Tensor) -> Tensor:
    """Turn (N, H, W) masks into maps in (2/3, 1] inside and [0, 1/3] outside that decrease from the center."""
    height, width = mask.shape[1:]
    y = torch.arange(height, device=mask.device, dtype=torch.float32)[:, None]
    x = torch.arange(width, device=mask.device, dtype=torch.float32)[None]
    area = mask.sum(dim=(1, 2))
    center_y, center_x = ((mask * axis).sum(dim=(1, 2)) / area for axis in (y, x))
    # Shifted by a fraction of a pixel: around an exact center up to eight pixels tie, and strict rules drop them all.
    distance = torch.hypot(y - center_y[:, None, None] - 0.19, x - center_x[:, None, None] - 0.31)
    nearness = 1 - distance / (height**2 + width**2) ** 0.5
    return (nearness + 2 * mask) / 3


def _keys(count: int, seed: int, first: int = 0) -> Tensor:
    return draws.clip_key(seed, 0, torch.arange(first, first + count))
