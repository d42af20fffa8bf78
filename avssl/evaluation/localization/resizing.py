"""Resize modes of the released evaluators, and min-max normalization of heat maps.

Dimensions: N samples, h and w cells of a map, H and W pixels of the truth.
"""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.localization.arrays import alike, as_maps

SIZE = 224
"""Side of the square at which published protocols compare maps and truth: 50 176 pixels."""

MODES: dict[str, tuple[str, bool]] = {
    "bilinear": ("bilinear", False),
    "bilinear_corners": ("bilinear", True),
    "bicubic": ("bicubic", False),
    "bicubic_corners": ("bicubic", True),
}
"""Interpolation and ``align_corners`` by name."""

A = TypeVar("A", np.ndarray, Tensor)


def resize_heatmaps(maps: A, size: int | tuple[int, int] = SIZE, mode: str = "bilinear") -> A:
    """Interpolate heat maps to the size at which they are scored.

    The mode changes the cIoU of a single sample by up to 0.05, so it is part of a protocol:

    - ``bilinear``: half-pixel centers: ``INTER_LINEAR`` of OpenCV (LVS, SSL-TIE, SSLalignment on VGG-SS).
    - ``bilinear_corners``: corner cells on corner pixels (EZ-VSL and FNAC at test).
    - ``bicubic``: half-pixel centers, Keys' kernel with a = -0.75 (EZ-VSL in validation, JSA); may overshoot.
    - ``bicubic_corners``: the same kernel, corners aligned (SLAVC at test).

    Downscaling does not smooth, as in all of these.

    Args:
        maps: (h, w), or (N, h, w), of any real values.
        size: Height and width; one number for a square.
        mode: A name in :data:`MODES`.

    Returns:
        (H, W), or (N, H, W), float32; an array for an array and a tensor for a tensor. A constant map
        stays exactly constant, and a map of this size is returned unchanged.

    Raises:
        ValueError: On an unknown mode, a size below 1, or maps of another shape or with NaN.

    Example:
        >>> resize_heatmaps(np.array([[0.0, 1.0]]), (1, 4))
        array([[0.  , 0.25, 0.75, 1.  ]], dtype=float32)
    """
    check_mode(mode)
    hw = (int(size), int(size)) if isinstance(size, int | np.integer) else (int(size[0]), int(size[1]))
    if min(hw) < 1:
        raise InputError(f"size ({size}) must be at least 1.")
    resized = interpolate(as_maps("maps", maps), hw, mode)
    return cast(A, alike(resized if np.ndim(maps) == 3 else resized[0], maps))


def interpolate(maps: Tensor, hw: tuple[int, int], mode: str) -> Tensor:
    """Apply :func:`resize_heatmaps` to (N, h, w) float32 that are known to be finite."""
    if tuple(maps.shape[1:]) == hw:
        return maps
    name, corners = MODES[mode]
    resized = F.interpolate(maps[:, None], size=hw, mode=name, align_corners=corners)[:, 0]
    # The weights of a pixel sum to 1 up to rounding, and min-max would amplify the rounding errors of a constant
    # map to the full range.
    first = maps[:, :1, :1]
    constant = (maps == first).flatten(1).all(dim=1)[:, None, None]
    return torch.where(constant, first, resized) if constant.any() else resized


def min_max(maps: Tensor) -> Tensor:
    """Scale each of (N, ...) maps to [0, 1]; a constant one is left unchanged."""
    low, high = torch.aminmax(maps.flatten(1), dim=1)
    constant = low == high
    shape = (-1,) + (1,) * (maps.ndim - 1)
    lowest = torch.where(constant, 0.0, low).view(shape)
    return maps.sub(lowest).div_(torch.where(constant, 1.0, high - low).view(shape))


def check_mode(mode: str) -> None:
    """Raise ValueError for a name that is not in :data:`MODES`."""
    if mode not in MODES:
        raise InputError(f"unknown mode {mode!r}; the modes are {', '.join(MODES)}.")
