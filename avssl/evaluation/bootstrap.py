"""Bootstrap intervals of means over clips.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3; by scipy.stats.bootstrap.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import bootstrap

from avssl.core.errors import InputError

_MAX_VALUES = 2_000_000  # resampled at a time: 16 MB of float64


def bootstrap_interval(
    per_sample_values: ArrayLike | torch.Tensor, seed: int = 0, *, confidence: float = 0.95, num_resamples: int = 2000
) -> tuple[float, float]:
    """Return the percentile interval of the mean under resampling with replacement.

    To compare two systems on the same samples, pass the difference for each sample (paired bootstrap): the
    systems differ if the interval excludes 0. To resample groups, pass one value for each group.

    Args:
        per_sample_values: (n,) numbers, such as hits, cIoUs or differences.
        seed: Random seed of the resampling.
        confidence: Share of resampled means inside the interval, in (0, 1).
        num_resamples: Number of resampled means.

    Returns:
        (low, high), which are equal for n = 1.

    Raises:
        ValueError: If there are no values, one is not finite, or ``confidence`` is out of range.

    Example:
        >>> bootstrap_interval([0.5, 0.5, 0.5])
        (0.5, 0.5)
        >>> old, new = np.array([0, 1, 0, 1]), np.array([1, 1, 0, 1])
        >>> bootstrap_interval(new - old)  # holds 0, so the systems may be equally good
        (0.0, 0.75)
    """
    values = np.asarray(per_sample_values, dtype=np.float64).reshape(-1, 1)
    low, high = bootstrap_intervals(values, seed, confidence=confidence, num_resamples=num_resamples)[0].tolist()
    return low, high


def bootstrap_intervals(
    per_sample_values: ArrayLike, seed: int = 0, *, confidence: float = 0.95, num_resamples: int = 2000
) -> np.ndarray:
    """Return :func:`bootstrap_interval` of the columns of (n, M) values, all with the same resamples.

    Returns:
        (M, 2) float64 of low and high.

    Raises:
        ValueError: As :func:`bootstrap_interval`, or if the values are not (n, M).

    Example:
        >>> hits = np.array([[0, 1], [0, 1], [1, 1], [1, 1]])
        >>> bootstrap_intervals(hits)
        array([[0., 1.], [1., 1.]])
    """
    values = np.asarray(per_sample_values, dtype=np.float64)
    if values.ndim != 2:
        raise InputError(f"per_sample_values must be (n, M), got shape {values.shape}.")
    if values.size == 0:
        raise InputError(f"per_sample_values must hold at least one number, got shape {values.shape}.")
    if not np.isfinite(values).all():
        raise InputError(f"per_sample_values must be finite; {int((~np.isfinite(values)).sum())} of them are not.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be in (0, 1), got {confidence}.")
    if len(values) == 1:  # scipy rejects a single sample
        return np.repeat(values.T, 2, axis=1)
    interval = bootstrap(
        (values,),
        np.mean,
        axis=0,
        n_resamples=num_resamples,
        batch=max(1, _MAX_VALUES // values.size),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return np.stack([interval.low, interval.high], axis=1)


def resampled_sums(
    values: ArrayLike, recordings: ArrayLike, rng: np.random.Generator, num_resamples: int = 2000
) -> np.ndarray:
    """Resample whole recordings, and return the sums of their rows' values.

    Args:
        values: (M, n) numbers of n rows.
        recordings: (n,) recording of each row.

    Returns:
        (M, num_resamples) float64.
    """
    _, owner = np.unique(np.asarray(recordings), return_inverse=True)
    totals = np.stack([np.bincount(owner, row) for row in np.asarray(values, dtype=np.float64)])  # (M, R)
    count = totals.shape[1]
    return np.stack([totals[:, rng.integers(0, count, count)].sum(axis=1) for _ in range(num_resamples)], axis=1)


def ratio_interval(
    numerator: ArrayLike, denominator: ArrayLike, recordings: ArrayLike, seed: int = 0, *, num_resamples: int = 2000
) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of the ratio of two sums over rows; recordings are resampled.

    With a denominator of ones, this is the interval of a mean.

    Args:
        numerator: (n,) numbers.
        denominator: (n,) numbers >= 0.
        recordings: (n,) recording of each row.
        seed: Random seed of the bootstrap.
        num_resamples: Number of bootstrap samples.

    Returns:
        (low, high) of the resamples whose denominator is not 0; None if it is in more than 1 % of them.

    Example:
        >>> ratio_interval([1, 1, 2], [2, 2, 4], ["a.mp4", "a.mp4", "b.mp4"])
        (0.5, 0.5)
        >>> ratio_interval([1, 0], [2, 0], ["a.mp4", "b.mp4"]) is None  # a quarter of the resamples hold b.mp4 alone
        True
    """
    both = np.stack([np.asarray(numerator), np.asarray(denominator)])
    above, below = resampled_sums(both, recordings, np.random.default_rng(seed), num_resamples)
    usable = below > 0
    if usable.mean() < 0.99:
        return None
    low, high = np.percentile(above[usable] / below[usable], [2.5, 97.5]).tolist()
    return low, high
