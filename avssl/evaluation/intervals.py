"""Intervals of shares, and accuracies of subgroups with theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from avssl.core.errors import InputError

NO_VALUE = "(none)"
"""Name of the group of clips without a value."""


def wilson_interval(
    successes: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> tuple[float | np.ndarray, float | np.ndarray]:
    """Wilson's score interval of a share, which holds for few clips and near 0 and 1, too.

    Source: Wilson, 1927, https://doi.org/10.1080/01621459.1927.10502953, without correction for
    continuity: the shares p with (s / n - p)^2 <= z^2 p (1 - p) / n.

    Args:
        successes: Clips that are right, of any shape; 0 <= successes <= n.
        n: Clips, of a shape that broadcasts with it; >= 0.
        confidence: How often the interval should hold the share, in (0, 1).

    Returns:
        (low, high), floats for scalars and arrays otherwise, in [0, 1]; (0, 1) where n is 0.

    Raises:
        ValueError: If a number is outside its range.

    Example:
        >>> low, high = wilson_interval(81, 263)
        >>> round(low, 4), round(high, 4)
        (0.2553, 0.3662)
    """
    hits, count = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(n, np.float64))
    if not ((hits >= 0) & (hits <= count) & np.isfinite(count)).all():
        raise InputError(f"successes must lie in [0, n], got {successes!r} of {n!r}.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be in (0, 1), got {confidence}.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    spread = hits * (count - hits) / np.maximum(count, 1)
    center, half = hits + z * z / 2, z * np.sqrt(spread + z * z / 4)
    # Exact at the ends, where rounding leaves 1e-17 on either side of 0 and 1.
    low = np.where(hits == 0, 0.0, (center - half) / (count + z * z))
    high = np.where(hits == count, 1.0, (center + half) / (count + z * z))
    return (float(low), float(high)) if low.ndim == 0 else (low, high)


@dataclass(frozen=True)
class GroupAccuracy:
    """How often clips of one group are right."""

    n: int
    """Clips."""
    accuracy: float
    """In [0, 1]."""
    interval: tuple[float, float]
    """Wilson's."""


def subgroup_accuracy(correct: ArrayLike, groups: ArrayLike, confidence: float = 0.95) -> dict[str, GroupAccuracy]:
    """Accuracy by group.

    Args:
        correct: (N,) bool, N >= 1.
        groups: (N,) the group of each clip, such as a column of a manifest; None, "" and NaN are
            the group :data:`NO_VALUE`.
        confidence: Of the intervals.

    Returns:
        By name: numbers ascending, then other names, then :data:`NO_VALUE`.

    Raises:
        ValueError: If ``correct`` is not (N,) of bool, or ``groups`` of another length.
    """
    hits, values = np.asarray(correct), np.asarray(groups, dtype=object)
    if hits.ndim != 1 or hits.dtype != bool or len(hits) == 0 or values.shape != hits.shape:
        raise InputError(
            f"correct must be (N,) bool and groups (N,), N >= 1, got {hits.shape} {hits.dtype} and {values.shape}."
        )
    names = np.array([NO_VALUE if value is None or value == "" or value != value else str(value) for value in values])
    found = {}
    for name in sorted(set(names.tolist()), key=_order):
        inside = hits[names == name]
        low, high = wilson_interval(int(inside.sum()), len(inside), confidence)
        found[name] = GroupAccuracy(len(inside), float(inside.mean()), (float(low), float(high)))
    return found


def group_gap(groups: Mapping[str, GroupAccuracy]) -> tuple[str, str, float]:
    """The best and the worst group, and by how much their accuracies differ, in [0, 1]."""
    best, worst = (pick(groups, key=lambda name: groups[name].accuracy) for pick in (max, min))
    return best, worst, groups[best].accuracy - groups[worst].accuracy


def _order(name: str) -> tuple[bool, bool, float, str]:
    try:
        number = float(name)
    except ValueError:
        return name == NO_VALUE, True, 0.0, name
    return False, False, number, name
