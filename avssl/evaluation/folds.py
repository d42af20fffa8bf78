"""Mean and standard deviation of a score over folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avssl.core.errors import InputError


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """The mean over folds and the standard deviation of a fold (with n - 1; 0 for a single one)."""
    if not values:
        raise InputError("values are empty.")
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return float(np.mean(values)), deviation
