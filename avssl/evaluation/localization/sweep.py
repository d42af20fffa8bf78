"""How many pixels pass each of many thresholds, in one pass over the pixels.

Dimensions: P pixels, K thresholds.
"""

from __future__ import annotations

import numpy as np


def passing(
    values: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, *, strict: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Selected pixels, and those of them that are true, at each threshold.

    Args:
        values: (P,).
        truth: (P,) in [0, 1].
        thresholds: (K,) ascending.
        strict: Whether a value must be above a threshold, or may equal it.

    Returns:
        (K,) float64 each: the number of selected pixels, and the sum of the truth over them.
    """
    # Place k: the pixel passes the first k thresholds. Those that pass number i stand at i + 1 or later.
    place = np.searchsorted(thresholds, values, side="left" if strict else "right")
    counts = np.bincount(place, minlength=len(thresholds) + 1)
    hits = np.bincount(place, weights=truth, minlength=len(thresholds) + 1)
    return counts[:0:-1].cumsum()[::-1].astype(np.float64), hits[:0:-1].cumsum()[::-1]
