"""Search a gallery of windows for those most similar to a query, and tell how far the hits stand out.

A search always has a best hit. It means something only relative to the rest of the gallery: the best of N
unrelated windows also lies some standard deviations above the median, the more the larger N is.

Dimensions: N windows of the gallery, C vector size.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import median_abs_deviation

from avssl.core.errors import InputError

_LARGEST_COSINE = 1 - 1e-6
_BLOCK_ROWS = 2**16  # 65 536 x 512 float32 are 128 MB


@dataclass(frozen=True)
class GalleryLevel:
    """Distribution of the cosines of a query with the whole gallery.

    Example:
        >>> level = GalleryLevel(count=1000, mean=0.0, median=0.0, spread=0.1)
        >>> round(level.z(0.5), 2), round(level.best_by_chance, 2)  # arctanh(0.5) / 0.1; by chance
        (5.49, 3.23)
    """

    count: int
    """Number of windows N."""
    mean: float
    """Mean cosine."""
    median: float
    """Median cosine."""
    spread: float
    """Standard deviation of the cosines after Fisher's transform (arctanh, which makes the cosines of random vectors
    nearly normal), estimated by the median absolute deviation, which a few matching windows do not widen.

    Source: Fisher, Metron 1, 1921, for correlation coefficients, which are cosines."""

    def z(self, cosine: float) -> float:
        """Return the distance from the median in units of ``spread``; NaN if the spread is 0."""
        above = float(_fisher(np.float64(cosine)) - _fisher(np.float64(self.median)))
        return above / self.spread if self.spread > 0 else float("nan")

    @property
    def best_by_chance(self) -> float:
        """Expected z of the best of N unrelated windows.

        Source: Blom, Statistical Estimates and Transformed Beta-Variables, 1958. It is rather too high if windows
        overlap, because these are not independent.
        """
        return NormalDist().inv_cdf((self.count - 0.375) / (self.count + 0.25))


def query_cosines(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return (N,) float32 cosines of one query with every row of a gallery, computed in blocks of rows.

    Args:
        query: (C,) float, of any scale.
        gallery: (N, C) float32, of any scale; a zero row has cosine 0.

    Raises:
        ValueError: If the sizes differ, the gallery is empty, or a value is not finite.

    Example:
        >>> gallery = np.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]], dtype=np.float32)
        >>> query_cosines(np.array([1.0, 0.0]), gallery)
        array([ 1.,  0., -1.], dtype=float32)
    """
    if query.ndim != 1 or gallery.ndim != 2 or gallery.shape[1] != len(query) or not len(gallery):
        raise InputError(f"need a query (C,) and a gallery (N, C) with N > 0, got {query.shape} and {gallery.shape}.")
    unit = F.normalize(torch.from_numpy(query).float(), dim=0)
    blocks = torch.from_numpy(gallery).split(_BLOCK_ROWS)
    cosines = torch.cat([F.normalize(block.float(), dim=1) @ unit for block in blocks]).numpy()
    if not np.isfinite(cosines).all():
        row = int((~np.isfinite(cosines)).argmax())
        raise InputError(f"query or gallery hold NaN or infinity, first in row {row} of the gallery.")
    return cosines


def gallery_level(cosines: np.ndarray) -> GalleryLevel:
    """Summarize the (N,) cosines of a query, such as those of :func:`query_cosines`.

    Example:
        >>> level = gallery_level(np.array([0.0, 0.1, 0.1, 0.2, 0.9]))
        >>> level.count, level.median, level.z(0.1)
        (5, 0.1, 0.0)
        >>> level.z(0.9) > level.best_by_chance
        True
    """
    median = float(np.median(cosines))
    spread = float(median_abs_deviation(_fisher(cosines), scale="normal"))
    return GalleryLevel(len(cosines), float(cosines.mean()), median, spread)


def _fisher(cosines: np.ndarray | np.float64) -> np.ndarray:
    """Apply arctanh; a cosine of 1 becomes 7.25 instead of infinity."""
    return np.arctanh(np.clip(np.asarray(cosines, dtype=np.float64), -_LARGEST_COSINE, _LARGEST_COSINE))


def top_moments(
    cosines: np.ndarray, files: np.ndarray, start_seconds: np.ndarray, stop_seconds: np.ndarray, k: int
) -> list[int]:
    """Return the rows of the ``k`` best distinct moments, best first.

    Windows of one file that start less than a window's length apart show the same moment; only the best of them counts.

    Args:
        cosines: (N,).
        files: (N,) names of the files.
        start_seconds: (N,) starts of the windows.
        stop_seconds: (N,) ends of the windows.
        k: Largest number of moments, >= 1.

    Raises:
        ValueError: If ``k`` is less than 1.

    Example:
        >>> files, cosines = np.array(["a.mp4", "a.mp4", "b.mp4"]), np.array([0.9, 0.8, 0.7])
        >>> start = np.array([0.0, 1.0, 0.0])
        >>> top_moments(cosines, files, start, start + 2, k=2)  # row 1 overlaps with row 0
        [0, 2]
    """
    if k < 1:
        raise InputError(f"k ({k}) must be at least 1.")
    kept: list[int] = []
    starts_of: dict[str, list[float]] = {}
    for row in np.argsort(-cosines, kind="stable").tolist():
        start, length = start_seconds[row], stop_seconds[row] - start_seconds[row]
        starts = starts_of.setdefault(files[row], [])
        if all(abs(start - other) >= length - 1e-6 for other in starts):
            starts.append(start)
            kept.append(row)
        if len(kept) == k:
            break
    return kept
