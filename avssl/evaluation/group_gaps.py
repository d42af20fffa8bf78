"""Test whether a score differs between groups of clips, at the level of recordings.

Sources: Phipson and Smyth, 2010, https://arxiv.org/abs/1603.05766 (permutation p-values); Holm, 1979 (correction).

Dimensions: N rows, R recordings, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from avssl.core.errors import InputError


@dataclass(frozen=True)
class GroupGaps:
    """Differences of a mean score between groups, with their uncertainty."""

    gap: float
    """Mean score of the best group minus that of the worst, >= 0."""
    interval: tuple[float, float]
    """Percentile-bootstrap 95 % interval of the difference between these two groups; recordings are resampled."""
    p_value: float
    """Permutation p-value of the gap, in (0, 1]."""
    against_rest: dict[str, float]
    """Group -> its mean score minus that of all other rows."""
    p_values: dict[str, float]
    """Group -> two-sided permutation p-value against the rest, Holm-corrected over the groups."""


def group_gaps(
    scores: ArrayLike, groups: ArrayLike, recordings: ArrayLike, seed: int = 0, *, num_resamples: int = 2000
) -> GroupGaps | None:
    """Compare the mean score of groups; rows of one recording are resampled and permuted together.

    Args:
        scores: (N,) finite numbers, such as hits or IoUs.
        groups: (N,) group names.
        recordings: (N,) recording of each row.
        num_resamples: Number of bootstrap samples and of permutations.

    Returns:
        The gaps; None if there are fewer than two groups, or a recording has rows of several groups, so that
        recordings cannot be permuted between groups.

    Raises:
        ValueError: If the lengths differ, there are no rows, or a score is not finite.
    """
    values, names, owners = np.asarray(scores, dtype=np.float64), np.asarray(groups, dtype=str), np.asarray(recordings)
    if values.ndim != 1 or not len(values) or names.shape != values.shape or owners.shape != values.shape:
        raise InputError(
            f"scores, groups and recordings must be (N,), got {values.shape}, {names.shape}, {owners.shape}."
        )
    if not np.isfinite(values).all():
        raise InputError("scores must be finite.")
    labels, group_of_row = np.unique(names, return_inverse=True)
    _, first, owner = np.unique(owners, return_index=True, return_inverse=True)
    group = group_of_row[first]  # (R,)
    if len(labels) < 2 or (group[owner] != group_of_row).any():
        return None
    totals = np.stack([np.bincount(owner, values), np.bincount(owner)])  # (2, R) sums and numbers of rows
    rng = np.random.default_rng(seed)
    means, rest = _means(totals, group, len(labels))
    best, worst = int(means.argmax()), int(means.argmin())
    permuted = [_means(totals, rng.permutation(group), len(labels)) for _ in range(num_resamples)]
    spans = np.array([np.ptp(mean) for mean, _ in permuted])
    differences = np.abs([mean - other for mean, other in permuted])  # (P, G)
    corrected = _holm([_p_value(differences[:, i], abs(means[i] - rest[i])) for i in range(len(labels))])
    resampled = [_resampled_mean(totals[:, group == i], rng, num_resamples) for i in (best, worst)]
    low, high = np.percentile(resampled[0] - resampled[1], [2.5, 97.5]).tolist()
    return GroupGaps(
        float(np.ptp(means)),
        (low, high),
        _p_value(spans, float(np.ptp(means))),
        dict(zip(labels.tolist(), (means - rest).tolist(), strict=True)),
        dict(zip(labels.tolist(), corrected, strict=True)),
    )


def _means(totals: np.ndarray, group: np.ndarray, num_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the (G,) mean scores of the groups and of the rows outside each."""
    sums, counts = (np.bincount(group, row, minlength=num_groups) for row in totals)
    return sums / counts, (sums.sum() - sums) / (counts.sum() - counts)


def _resampled_mean(totals: np.ndarray, rng: np.random.Generator, num_resamples: int) -> np.ndarray:
    means = np.empty(num_resamples)
    for i in range(num_resamples):
        sums, counts = totals[:, rng.integers(0, totals.shape[1], totals.shape[1])]
        means[i] = sums.sum() / counts.sum()
    return means


def _p_value(permuted: np.ndarray, observed: float) -> float:
    """Return the share of permutations, with the observed one, that are at least as large up to rounding."""
    return float((1 + (permuted >= observed - 1e-9).sum()) / (1 + len(permuted)))


def _holm(p_values: list[float]) -> list[float]:
    order = np.argsort(p_values)
    scaled = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return list(map(float, corrected))
