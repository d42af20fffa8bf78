"""Conversion of arguments to arrays, with errors that name the argument."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from avssl.core.errors import InputError


def finite_array(name: str, value: ArrayLike, shape: str) -> np.ndarray:
    """Convert ``value`` to float64.

    Args:
        name: Name of the argument, for errors.
        value: Numbers.
        shape: Required dimensions in letters, such as ``"(N, K)"``.

    Raises:
        ValueError: If the number of dimensions differs, or the array is empty or holds NaN or infinity.
    """
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != shape.count(",") + (not shape.endswith(",)")) or array.size == 0:
        raise InputError(f"{name} must be {shape} and not empty, got shape {array.shape}.")
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        raise InputError(
            f"{name} hold NaN or infinity in {bad.sum()} of {len(array)} rows, first in row {bad.argmax()}."
        )
    return array


def class_numbers(name: str, value: ArrayLike, length: int, num_classes: int) -> np.ndarray:
    """Convert ``value`` to (``length``,) int64 in [0, ``num_classes``).

    Raises:
        ValueError: If the shape, the type or a value differs.
    """
    array = np.asarray(value)
    if array.shape != (length,) or array.dtype.kind not in "iu":
        raise InputError(
            f"{name} must be ({length},) whole numbers, one a row, got shape {array.shape} of {array.dtype}."
        )
    bad = (array < 0) | (array >= num_classes)
    if bad.any():
        first = bad.argmax()
        raise InputError(f"{name} must lie in 0 ... {num_classes - 1}, got {array[first]} in row {first}.")
    return array.astype(np.int64)
