"""A heat map at the size of the truth: the resize modes of the released evaluators, and min-max normalization.

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
"""Side of the square at which the published protocols compare: 50 176 pixels."""

MODES: dict[str, tuple[str, bool]] = {
    "bilinear": ("bilinear", False),
    "bilinear_corners": ("bilinear", True),
    "bicubic": ("bicubic", False),
    "bicubic_corners": ("bicubic", True),
}
"""Name -> interpolation, and whether the middles of the corner cells are put on the corner pixels."""

A = TypeVar("A", np.ndarray, Tensor)


def resize(map: A, size: int | tuple[int, int] = SIZE, mode: str = "bilinear") -> A:
    """Interpolates heat maps to the size at which they are scored.

    The modes move the cIoU of a single sample by up to 0.05, so they belong to a protocol:

    - ``bilinear``: half-pixel centers, edges continued. What OpenCV calls ``INTER_LINEAR`` (LVS, SSL-TIE,
      SSLalignment on VGG-SS) and torch ``bilinear, align_corners=False``.
    - ``bilinear_corners``: corner cells on corner pixels (EZ-VSL and FNAC at test).
    - ``bicubic``: half-pixel centers, Keys' kernel with a = -0.75 (EZ-VSL in validation, JSA). May overshoot.
    - ``bicubic_corners``: the same kernel, corners aligned (SLAVC at test).

    Nothing is smoothed where the map has more cells than the result has pixels, as in all of these.

    Args:
        map: (h, w), or (N, h, w), of any real values.
        size: Height and width; one number for a square.
        mode: A name of :data:`MODES`.

    Returns:
        (H, W), or (N, H, W), float32; an array for an array and a tensor for a tensor. A constant map
        stays constant to the last bit, and one that has the size already is returned as it is.

    Raises:
        ValueError: On an unknown mode, a size below 1, or a map that is none or holds NaN.

    Example:
        >>> resize(np.array([[0.0, 1.0]]), (1, 4))
        array([[0.  , 0.25, 0.75, 1.  ]], dtype=float32)
    """
    check_mode(mode)
    hw = (int(size), int(size)) if isinstance(size, int | np.integer) else (int(size[0]), int(size[1]))
    if min(hw) < 1:
        raise InputError(f"size ({size}) must be at least 1.")
    resized = resize_maps(as_maps("map", map), hw, mode)
    return cast(A, alike(resized if np.ndim(map) == 3 else resized[0], map))


def resize_maps(maps: Tensor, hw: tuple[int, int], mode: str) -> Tensor:
    """:func:`resize` of (N, h, w) float32 that are known to be finite."""
    if tuple(maps.shape[1:]) == hw:
        return maps
    name, corners = MODES[mode]
    resized = F.interpolate(maps[:, None], size=hw, mode=name, align_corners=corners)[:, 0]
    # The weights of a pixel sum to 1 but for rounding, and min-max would blow what that leaves of a
    # constant map up to a full-range picture of nothing.
    first = maps[:, :1, :1]
    constant = (maps == first).flatten(1).all(dim=1)[:, None, None]
    return torch.where(constant, first, resized) if constant.any() else resized


def min_max(maps: Tensor) -> Tensor:
    """Each of (N, ...) maps to [0, 1]; a constant one is left untouched."""
    low, high = torch.aminmax(maps.flatten(1), dim=1)
    constant = low == high
    shape = (-1,) + (1,) * (maps.ndim - 1)
    lowest = torch.where(constant, 0.0, low).view(shape)
    return maps.sub(lowest).div_(torch.where(constant, 1.0, high - low).view(shape))


def check_mode(mode: str) -> None:
    """Raises ValueError on a name that is not in :data:`MODES`."""
    if mode not in MODES:
        raise InputError(f"unknown mode {mode!r}; the modes are {', '.join(MODES)}.")
