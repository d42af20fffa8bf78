"""Arrays as the measures want them, or an error that names the argument and says what is wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from avssl.core.errors import InputError


def finite_array(name: str, value: ArrayLike, shape: str) -> np.ndarray:
    """``value`` as float64.

    Args:
        name: What the caller knows it as.
        value: Numbers.
        shape: The dimensions it must have, in letters: ``"(N, K)"``.

    Raises:
        ValueError: If it has another number of dimensions, holds nothing, NaN or infinity.
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
    """``value`` as (``length``,) int64 in [0, ``num_classes``).

    Raises:
        ValueError: If it is anything else.
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
