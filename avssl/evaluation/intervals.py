"""Means and shares with their uncertainty, and accuracies of subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from avssl.core.errors import InputError

NO_VALUE = "(none)"
"""Name of the group of clips without a value."""


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over folds and the standard deviation of a fold (with n - 1; 0 for one fold)."""
    if not values:
        raise InputError("values are empty.")
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return float(np.mean(values)), deviation


def wilson_interval(
    successes: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> tuple[float | np.ndarray, float | np.ndarray]:
    """Return Wilson's score interval of a share, which also holds for few clips and near 0 and 1.

    Source: Wilson, 1927, https://doi.org/10.1080/01621459.1927.10502953, without correction for
    continuity; computed by scipy.

    Args:
        successes: Numbers of right clips, of any shape; 0 <= successes <= n.
        n: Numbers of clips, of a shape that broadcasts with it; >= 0.
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        (low, high), floats for scalars and arrays otherwise, in [0, 1]; (0, 1) where n is 0.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> low, high = wilson_interval(81, 263)
        >>> round(low, 4), round(high, 4)
        (0.2553, 0.3662)
    """
    hits, counts = np.broadcast_arrays(np.asarray(successes), np.asarray(n))
    if not ((hits >= 0) & (hits <= counts) & np.isfinite(counts)).all():
        raise InputError(f"successes must lie in [0, n], got {successes!r} of {n!r}.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be in (0, 1), got {confidence}.")
    ends = [_wilson(int(hit), int(count), confidence) for hit, count in zip(hits.flat, counts.flat, strict=True)]
    if hits.ndim == 0:
        return ends[0]
    low, high = np.array(ends, dtype=np.float64).reshape(*hits.shape, 2).transpose(-1, *range(hits.ndim))
    return low, high


def _wilson(successes: int, n: int, confidence: float) -> tuple[float, float]:
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class GroupAccuracy:
    """Accuracy of one group of clips."""

    n: int
    """Number of clips."""
    accuracy: float
    """Share of right clips, in [0, 1]."""
    interval: tuple[float, float]
    """Wilson interval of the accuracy."""


def subgroup_accuracy(correct: ArrayLike, groups: ArrayLike, confidence: float = 0.95) -> dict[str, GroupAccuracy]:
    """Compute the accuracy of each group.

    Args:
        correct: (N,) bool, N >= 1.
        groups: (N,) the group of each clip, such as a column of a manifest; None, "" and NaN are
            the group :data:`NO_VALUE`.
        confidence: Coverage of the intervals.

    Returns:
        Accuracies by name: numbers ascending, then other names, then :data:`NO_VALUE`.

    Raises:
        ValueError: If ``correct`` is not (N,) bool, or the length of ``groups`` differs.
    """
    hits, values = np.asarray(correct), np.asarray(groups, dtype=object)
    if hits.ndim != 1 or hits.dtype != bool or len(hits) == 0 or values.shape != hits.shape:
        raise InputError(
            f"correct must be (N,) bool and groups (N,), N >= 1, got {hits.shape} {hits.dtype} and {values.shape}."
        )
    names = group_names(values)
    found = {}
    for name in sorted(set(names.tolist()), key=_order):
        inside = hits[names == name]
        interval = _wilson(int(inside.sum()), len(inside), confidence)
        found[name] = GroupAccuracy(len(inside), float(inside.mean()), interval)
    return found


def group_names(groups: ArrayLike) -> np.ndarray:
    """Return the (N,) names of groups; None, "" and NaN are :data:`NO_VALUE`."""
    values = np.asarray(groups, dtype=object)
    return np.array([NO_VALUE if value is None or value == "" or value != value else str(value) for value in values])


def group_gap(groups: Mapping[str, GroupAccuracy]) -> tuple[str, str, float]:
    """Return the best and the worst group, and the difference of their accuracies, in [0, 1]."""
    best, worst = (pick(groups, key=lambda name: groups[name].accuracy) for pick in (max, min))
    return best, worst, groups[best].accuracy - groups[worst].accuracy


def _order(name: str) -> tuple[bool, bool, float, str]:
    try:
        number = float(name)
    except ValueError:
        return name == NO_VALUE, True, 0.0, name
    return False, False, number, name
