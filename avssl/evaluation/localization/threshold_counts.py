"""Counts of the pixels above each of many thresholds, in one pass over the pixels.

Dimensions: P pixels, K thresholds.
"""

from __future__ import annotations

import numpy as np


def count_above(
    values: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, *, strict: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels above each threshold, and the true pixels among them.

    Args:
        values: (P,).
        truth: (P,) in [0, 1].
        thresholds: (K,) ascending.
        strict: Count values above a threshold; otherwise also those equal to it.

    Returns:
        (K,) float64 each: the number of these pixels, and the sum of the truth over them.
    """
    # A pixel at place k passes the first k thresholds, so the pixels that pass threshold i are at i + 1 or later.
    place = np.searchsorted(thresholds, values, side="left" if strict else "right")
    counts = np.bincount(place, minlength=len(thresholds) + 1)
    hits = np.bincount(place, weights=truth, minlength=len(thresholds) + 1)
    return counts[:0:-1].cumsum()[::-1].astype(np.float64), hits[:0:-1].cumsum()[::-1]
