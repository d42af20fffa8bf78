"""Test whether a score differs between groups of clips, at the level of recordings.

Sources: Phipson and Smyth, 2010, https://arxiv.org/abs/1603.05766 (permutation p-values); Holm, 1979 (correction).

Dimensions: N rows, R recordings, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from avssl.core.errors import InputError
from avssl.evaluation.bootstrap import resampled_sums

FEWEST_RECORDINGS = 5
"""Minimum number of recordings of each group: the resampled means of fewer take a handful of values only."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class GroupGaps:
    """Differences of a mean score between groups, with their uncertainty.

    Example:
        >>> hits, sites = [1, 1, 0, 1, 0, 0, 1, 0], ["north"] * 4 + ["south"] * 4
        >>> gaps = group_gaps(hits, sites, recordings=range(8), fewest=2)
        >>> gaps.against_rest, round(gaps.p_value, 4)  # 34 of 70 arrangements have a gap as large
        ({'north': 0.5, 'south': -0.5}, 0.4857)
    """

    gap: float
    """Mean score of the best group minus that of the worst, >= 0."""
    interval: Interval
    """Percentile-bootstrap 95 % interval of the difference between these two groups; recordings are resampled. It does
    not cover that these two were chosen after looking at all groups; ``p_value`` does."""
    p_value: float
    """Permutation p-value of the gap, in (0, 1]; exact where all arrangements can be listed."""
    against_rest: dict[str, float]
    """Group -> its mean score minus that of all other rows."""
    rest_intervals: dict[str, Interval]
    """Group -> 95 % interval of ``against_rest``, as above; each on its own."""
    p_values: dict[str, float]
    """Group -> two-sided permutation p-value against the rest, Holm-corrected over the groups."""


def untestable(groups: ArrayLike, recordings: ArrayLike, fewest: int = FEWEST_RECORDINGS) -> str:
    """Return why group names cannot be exchanged between the recordings of a column, or "" if they can.

    Args:
        groups: (N,) group names.
        recordings: (N,) recording of each row.
        fewest: Minimum number of recordings of a group.

    Example:
        >>> untestable(["north", "south"], ["a.mp4", "b.mp4"], fewest=1)
        ''
        >>> untestable(["north", "south"] * 2, ["a.mp4", "a.mp4", "b.mp4", "b.mp4"], fewest=1)
        '2 recordings hold clips of several groups, so that recordings cannot be exchanged as wholes'
    """
    labels, group_of_row, group, owner = _grouped(groups, recordings)
    if len(labels) < 2:
        return f"all clips are of one group, {str(labels[0])!r}"
    mixed = len(np.unique(owner[group[owner] != group_of_row]))
    if mixed:
        hold = "1 recording holds" if mixed == 1 else f"{mixed} recordings hold"
        return f"{hold} clips of several groups, so that recordings cannot be exchanged as wholes"
    counts = np.bincount(group)
    if counts.min() < fewest:
        few = [f"{name!r} ({count})" for name, count in zip(labels.tolist(), counts, strict=True) if count < fewest]
        return (
            f"at least {fewest} recordings of each group are needed, and there are fewer of {', '.join(few)}; add "
            "clips, leave these out, or join values of the column"
        )
    return ""


def group_gaps(
    scores: ArrayLike,
    groups: ArrayLike,
    recordings: ArrayLike,
    seed: int = 0,
    *,
    num_resamples: int = 2000,
    fewest: int = FEWEST_RECORDINGS,
) -> GroupGaps:
    """Compare the mean score of groups; rows of one recording are resampled and permuted together.

    Args:
        scores: (N,) finite numbers, such as hits or IoUs.
        groups: (N,) group names.
        recordings: (N,) recording of each row.
        seed: Random seed of the bootstrap and the permutations.
        num_resamples: Number of bootstrap samples and of permutations. If there are no more arrangements of the
            recordings among the groups than this, all are listed instead, and p-values are exact.
        fewest: Minimum number of recordings of a group.

    Raises:
        ValueError: If the lengths differ, there are no rows, a score is not finite, or the column is
            :func:`untestable`.

    Example:
        >>> hits, sites = [1, 1, 0, 1, 0, 0, 1, 0], ["north"] * 4 + ["south"] * 4
        >>> gaps = group_gaps(hits, sites, recordings=range(8), fewest=2)
        >>> float(gaps.gap)
        0.5
        >>> round(gaps.p_value, 4)  # 34 of 70 arrangements have a gap as large
        0.4857
    """
    values, names, owners = np.asarray(scores, dtype=np.float64), np.asarray(groups, dtype=str), np.asarray(recordings)
    if values.ndim != 1 or not len(values) or names.shape != values.shape or owners.shape != values.shape:
        raise InputError(
            f"scores, groups and recordings must be (N,), got {values.shape}, {names.shape}, {owners.shape}."
        )
    if not np.isfinite(values).all():
        raise InputError("scores must be finite.")
    if reason := untestable(names, owners, fewest):
        raise InputError(f"no test of the gap: {reason}.")
    labels, _, group, owner = _grouped(names, owners)
    totals = np.stack([np.bincount(owner, values), np.bincount(owner)])  # (2, R) sums and numbers of rows
    rng = np.random.default_rng(seed)
    means, rest = _means(totals, group, len(labels))
    best, worst = int(means.argmax()), int(means.argmin())
    exact = _num_arrangements(group) <= num_resamples
    arrangements = _arrangements(group) if exact else [rng.permutation(group) for _ in range(num_resamples)]
    permuted = [_means(totals, arrangement, len(labels)) for arrangement in arrangements]
    spans = np.array([np.ptp(mean) for mean, _ in permuted])
    differences = np.abs([mean - other for mean, other in permuted])  # (P, G)
    by_group = [_p_value(differences[:, i], abs(means[i] - rest[i]), exact) for i in range(len(labels))]
    recordings_of = [np.flatnonzero(group == i) for i in range(len(labels))]
    resampled = [resampled_sums(totals[:, own], own, rng, num_resamples) for own in recordings_of]  # (2, P) each
    every = np.sum(resampled, axis=0)
    names_of = labels.tolist()
    return GroupGaps(
        float(np.ptp(means)),
        _percentiles(_mean(resampled[best]) - _mean(resampled[worst])),
        _p_value(spans, float(np.ptp(means)), exact),
        dict(zip(names_of, (means - rest).tolist(), strict=True)),
        {name: _percentiles(_mean(own) - _mean(every - own)) for name, own in zip(names_of, resampled, strict=True)},
        dict(zip(names_of, _holm(by_group), strict=True)),
    )


def _grouped(groups: ArrayLike, recordings: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (G,) names, (N,) group of each row, (R,) group of each recording, (N,) recording of each row."""
    labels, group_of_row = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    _, first, owner = np.unique(np.asarray(recordings), return_index=True, return_inverse=True)
    return labels, group_of_row, group_of_row[first], owner


def _means(totals: np.ndarray, group: np.ndarray, num_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the (G,) mean scores of the groups and of the rows outside each."""
    sums, counts = (np.bincount(group, row, minlength=num_groups) for row in totals)
    return sums / counts, (sums.sum() - sums) / (counts.sum() - counts)


def _mean(totals: np.ndarray) -> np.ndarray:
    return np.asarray(totals[0] / totals[1])


def _percentiles(values: np.ndarray) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return low, high


def _num_arrangements(group: np.ndarray) -> int:
    count = math.factorial(len(group))
    for size in np.bincount(group).tolist():
        count //= math.factorial(size)
    return count


def _arrangements(group: np.ndarray) -> Iterator[np.ndarray]:
    """Yield every distinct order of the (R,) group numbers, the given one among them."""

    def orders(left: Sequence[int]) -> Iterator[list[int]]:
        if not any(left):
            yield []
        for i, count in enumerate(left):
            if count:
                for more in orders([*left[:i], count - 1, *left[i + 1 :]]):
                    yield [i, *more]

    for order in orders(np.bincount(group).tolist()):
        yield np.array(order)


def _p_value(permuted: np.ndarray, observed: float, exact: bool) -> float:
    """Return the share of arrangements, with the observed one, that are at least as large up to rounding."""
    reached = int((permuted >= observed - 1e-9).sum())
    return reached / len(permuted) if exact else (1 + reached) / (1 + len(permuted))


def _holm(p_values: list[float]) -> list[float]:
    order = np.argsort(p_values)
    scaled = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return list(map(float, corrected))
