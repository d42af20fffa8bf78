"""Means and shares with their uncertainty, and scores of subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from avssl.core.errors import InputError
from avssl.evaluation.bootstrap import bootstrap_intervals, resampled_sums

NO_VALUE = "(none)"
"""Name of the group of clips without a value."""


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over folds and the standard deviation of a fold (with n - 1; 0 for one fold).

    Raises:
        ValueError: If there are no values.

    Example:
        >>> mean_and_deviation([0.5, 0.75, 1.0])
        (0.75, 0.25)
    """
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


def mean_interval(values: ArrayLike, recordings: ArrayLike, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean over rows, of which those of one recording are not independent.

    Rows of the same recording (:class:`avssl.data.splits.Recordings`) are resampled together, so that repeating rows
    does not narrow the interval. Where every row is its own recording, the interval of a share is Wilson's, which holds
    for few rows too, and others are those of the bootstrap over rows.

    Args:
        values: (N,) numbers, or bool for a share; N >= 1.
        recordings: (N,) recording of each row.
        seed: Random seed of the bootstrap.

    Raises:
        ValueError: If the shapes differ, there are no values, or one is not finite.

    Example:
        >>> mean_interval([True, True, False, False], ["a.mp4", "a.mp4", "b.mp4", "b.mp4"])
        (0.0, 1.0)
    """
    given = np.asarray(values)
    low, high = mean_intervals(given[:, None] if given.ndim == 1 else given, recordings, seed)[0].tolist()
    return low, high


def mean_intervals(values: ArrayLike, recordings: ArrayLike, seed: int = 0) -> np.ndarray:
    """Return (M, 2) :func:`mean_interval` of the columns of (N, M) values, all with the same resamples.

    Raises:
        ValueError: As :func:`mean_interval`.

    Example:
        >>> hits = [[True, False], [True, False], [False, False], [False, False]]
        >>> mean_intervals(hits, ["a.mp4", "a.mp4", "b.mp4", "b.mp4"])
        array([[0., 1.], [0., 0.]])
    """
    numbers, owners = np.asarray(values), np.asarray(recordings)
    if numbers.ndim != 2 or not len(numbers) or owners.shape != numbers.shape[:1]:
        raise InputError(f"values must be (N, M) and recordings (N,), N >= 1, got {numbers.shape}, {owners.shape}.")
    if not np.isfinite(numbers).all():
        raise InputError("values must be finite.")
    if len(np.unique(owners)) < len(owners):
        columns = np.concatenate([numbers.T.astype(np.float64), np.ones((1, len(owners)))])
        *sums, counts = resampled_sums(columns, owners, np.random.default_rng(seed))
        return np.percentile(np.array(sums) / counts, [2.5, 97.5], axis=1).T
    if numbers.dtype == bool:
        return np.stack(wilson_interval(numbers.sum(axis=0), len(numbers)), axis=1)
    return bootstrap_intervals(numbers, seed)


@dataclass(frozen=True)
class GroupScore:
    """Mean score of one group of clips.

    Example:
        >>> score = subgroup_scores([1, 1, 0], ["day", "day", "night"], recordings=[0, 1, 2])["day"]
        >>> score.n, score.mean
        (2, 1.0)
    """

    n: int
    """Number of clips."""
    mean: float
    """Mean score, such as the share of right clips."""
    interval: tuple[float, float]
    """95 % interval of the mean."""


def subgroup_scores(
    scores: ArrayLike, groups: ArrayLike, recordings: ArrayLike, seed: int = 0
) -> dict[str, GroupScore]:
    """Compute the mean score of each group.

    The intervals are those of :func:`mean_interval`; scores that are all 0 or 1 are shares.

    Args:
        scores: (N,) finite numbers or bool, N >= 1.
        groups: (N,) the group of each clip, such as a column of a manifest; None, "" and NaN are
            the group :data:`NO_VALUE`.
        recordings: (N,) recording of each clip.
        seed: Random seed of the bootstrap.

    Returns:
        Scores by name: numbers ascending, then other names, then :data:`NO_VALUE`.

    Raises:
        ValueError: If ``scores`` is not (N,), the other lengths differ, or a score is not finite.

    Example:
        >>> scores = subgroup_scores([1, 0, 1], ["day", "day", None], recordings=[0, 1, 2])
        >>> {name: score.mean for name, score in scores.items()}
        {'day': 0.5, '(none)': 1.0}
    """
    values, given, owners = np.asarray(scores), np.asarray(groups, dtype=object), np.asarray(recordings)
    if values.ndim != 1 or len(values) == 0 or given.shape != values.shape or owners.shape != values.shape:
        raise InputError(
            f"scores, groups and recordings must be (N,), N >= 1, got {values.shape}, {given.shape}, {owners.shape}."
        )
    if not np.isfinite(values).all():
        raise InputError("scores must be finite.")
    values, names = values.astype(bool if np.isin(values, (0, 1)).all() else np.float64), group_names(given)
    found = {}
    for name in sorted(set(names.tolist()), key=_order):
        inside = values[names == name]
        found[name] = GroupScore(len(inside), float(inside.mean()), mean_interval(inside, owners[names == name], seed))
    return found


def group_names(groups: ArrayLike) -> np.ndarray:
    """Return the (N,) names of groups; None, "" and NaN are :data:`NO_VALUE`.

    Example:
        >>> group_names(["dawn", None, "", 7]).tolist()
        ['dawn', '(none)', '(none)', '7']
    """
    values = np.asarray(groups, dtype=object)
    return np.array([NO_VALUE if value is None or value == "" or value != value else str(value) for value in values])


def group_gap(groups: Mapping[str, GroupScore]) -> tuple[str, str, float]:
    """Return the best and the worst group, and the difference of their means, >= 0.

    Args:
        groups: At least one, such as from :func:`subgroup_scores`.

    Example:
        >>> group_gap(subgroup_scores([1, 1, 0], ["day", "day", "night"], recordings=[0, 1, 2]))
        ('day', 'night', 1.0)
    """
    best, worst = (pick(groups, key=lambda name: groups[name].mean) for pick in (max, min))
    return best, worst, groups[best].mean - groups[worst].mean


def _order(name: str) -> tuple[bool, bool, float, str]:
    try:
        number = float(name)
    except ValueError:
        return name == NO_VALUE, True, 0.0, name
    return False, False, number, name
