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
        confidence: Share of resampled means inside the interval, in (0, 1).
        num_resamples: Number of resampled means.

    Returns:
        (low, high), which are equal for n = 1.

    Raises:
        ValueError: If there are no values or one is not finite.
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
    """
    values = np.asarray(per_sample_values, dtype=np.float64)
    if values.ndim != 2 or len(values) == 0 or not np.isfinite(values).all():
        raise InputError(f"per_sample_values must be finite and at least one, got {len(values)} values.")
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
