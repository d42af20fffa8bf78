"""The moments of many files that are most like a query, and how like it the others are.

A search always has a first hit. Whether it means something shows beside the rest of the gallery: the
best of N unrelated windows stands some spreads above their middle, too, the more the larger N is.

Dimensions: N windows of the gallery, C vector size.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
import torch.nn.functional as F

from avssl.core.errors import InputError

_LARGEST_COSINE = 1 - 1e-6
_BLOCK_ROWS = 2**16  # 65 536 x 512 float32 are 128 MB


@dataclass(frozen=True)
class GalleryLevel:
    """Cosines of a query with a whole gallery."""

    count: int
    """N."""
    mean: float
    """Of all cosines."""
    median: float
    """Of all cosines."""
    spread: float
    """On Fisher's scale, the inverse hyperbolic tangent, where cosines of random vectors are close to normal however
    few their dimensions: 1.4826 times the median distance from the median, which is the standard deviation of a normal
    distribution and is not widened by the few windows that fit.

    Source: Fisher, Metron 1, 1921, on coefficients of correlation, which are cosines."""

    def z(self, cosine: float) -> float:
        """Spreads above the median, on Fisher's scale; NaN where there is no spread."""
        above = float(_fisher(np.float64(cosine)) - _fisher(np.float64(self.median)))
        return above / self.spread if self.spread > 0 else float("nan")

    @property
    def best_by_chance(self) -> float:
        """z that the best of N unrelated windows is expected to have.

        Source: Blom, Statistical Estimates and Transformed Beta-Variables, 1958. Windows that overlap are fewer than
        they seem, so it is rather too high.
        """
        return NormalDist().inv_cdf((self.count - 0.375) / (self.count + 0.25))


def query_cosines(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(N,) float32 cosines of one query with every row of a gallery; exact, a block of rows at a time.

    Args:
        query: (C,) float, of any scale.
        gallery: (N, C) float32, of any scale; a zero row has cosine 0.

    Raises:
        ValueError: If the sizes differ, the gallery is empty, or a value is not finite.
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
    """Where the middle of (N,) cosines lies, and how far they spread."""
    median = float(np.median(cosines))
    spread = 1.4826 * float(np.median(np.abs(_fisher(cosines) - _fisher(np.float64(median)))))
    return GalleryLevel(len(cosines), float(cosines.mean()), median, spread)


def _fisher(cosines: np.ndarray | np.float64) -> np.ndarray:
    """Cosines on an unbounded scale; 1 is held below infinity, at 7.25."""
    return np.arctanh(np.clip(np.asarray(cosines, dtype=np.float64), -_LARGEST_COSINE, _LARGEST_COSINE))


def top_moments(
    cosines: np.ndarray, files: np.ndarray, start_seconds: np.ndarray, stop_seconds: np.ndarray, k: int
) -> list[int]:
    """Rows of the ``k`` best distinct moments, best first.

    Windows of one file that begin less than a window's length apart show the same moment: of those only the best
    counts.

    Args:
        cosines: (N,).
        files: (N,) names that tell files apart.
        start_seconds: (N,) beginnings of the windows.
        stop_seconds: (N,) ends of the windows.
        k: Most moments, >= 1.

    Raises:
        ValueError: If ``k`` is less than 1.
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
