"""Arguments of the localization metrics: NumPy arrays or tensors, of one sample or of N.

Dimensions: N samples, h and w cells of a map, H and W pixels of the truth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.arrays import finite_array

Array = np.ndarray | Tensor
"""Every function takes either, and lists of numbers."""


def as_maps(name: str, value: Array) -> Tensor:
    """Return (N, h, w) float32 on the device of ``value``; (h, w) is one map, N = 1.

    Raises:
        ValueError: If the number of dimensions differs, or the array is empty or holds NaN or infinity.
    """
    maps = _stack(name, value).float()
    finite = torch.isfinite(maps)
    if not finite.all():
        bad = int((~finite).flatten(1).any(dim=1).nonzero()[0])
        raise InputError(f"{name} holds NaN or infinity, first in sample {bad}.")
    return maps


def as_truth(name: str, value: Array) -> Tensor:
    """Return (N, H, W) bool, or float32 in [0, 1]; (H, W) is one sample, N = 1.

    Raises:
        ValueError: If the number of dimensions differs, or the array is empty or holds values outside [0, 1].
    """
    truth = _stack(name, value)
    if truth.dtype == torch.bool:
        return truth
    if not bool(((truth >= 0) & (truth <= 1)).all()):
        raise InputError(f"{name} must be in [0, 1], got {truth.min().item()} to {truth.max().item()}.")
    return truth.float()


def as_pair(maps_name: str, maps: Array, truth: Array) -> tuple[Tensor, Tensor]:
    """Return maps and truth of the same samples.

    Raises:
        ValueError: If their numbers differ, or as :func:`as_maps` and :func:`as_truth`.
    """
    values, target = as_maps(maps_name, maps), as_truth("truth", truth)
    if len(values) != len(target):
        raise InputError(
            f"{maps_name} and truth must hold the same samples, "
            f"got {len(values)} of shape {tuple(values.shape[1:])} and {len(target)} of {tuple(target.shape[1:])}."
        )
    return values, target.to(values.device)


def as_scores(name: str, value: Array | Sequence[float] | float) -> np.ndarray:
    """Return (N,) float64; a single number is N = 1.

    Raises:
        ValueError: If there are more dimensions, or the array is empty or holds NaN or infinity.
    """
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    return finite_array(name, np.atleast_1d(array), "(N,)")


def as_given(values: Tensor, argument: Array) -> float | Array:
    """Return (N,) results in the type of the argument: a number for one map, else a tensor or an array."""
    if np.ndim(argument) == 2:
        return float(values[0])
    return alike(values, argument)


def alike(values: Tensor, argument: Array) -> Array:
    """Return a tensor if the argument is one, else an array."""
    return values if isinstance(argument, Tensor) else values.cpu().numpy()


def _stack(name: str, value: Array) -> Tensor:
    if isinstance(value, Tensor):
        found = value.detach()
    else:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise InputError(f"{name} must be numbers, got {array.dtype}.")
        # Copies arrays that torch cannot share (read-only, negative strides).
        found = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    if found.ndim not in (2, 3) or 0 in found.shape:
        raise InputError(
            f"{name} must be (N, height, width), or (height, width) of one sample, got {tuple(found.shape)}."
        )
    return found if found.ndim == 3 else found[None]
