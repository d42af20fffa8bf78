"""Nearest neighbors of every window among the windows of other recordings, by an inverted file.

The vectors are divided into lists by k-means. A vector is compared with the members of the lists whose centers are
nearest to it (Jegou et al., 2011, https://doi.org/10.1109/TPAMI.2010.57, section 4), one list after the other, so that
memory grows with N and time with N * num_probes * N / num_lists. Few vectors are compared exactly.

Dimensions: N windows, C vector size, k neighbors, L lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avssl.evaluation.corpus.clustering import find_centers, nearest_centers

EXACT_ROWS = 20_000
"""Up to this number of vectors, every pair is compared."""
NUM_PROBES = 8
_ROWS_PER_LIST = 1000
_BLOCK_CELLS = 2**20  # 4 MB of float32 stay in the cache of a core; larger blocks take several times as long


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Nearest windows of other recordings, nearest first."""

    rows: np.ndarray
    """(N, k) int64; -1 where fewer than k were found."""
    cosines: np.ndarray
    """(N, k) float32; -inf where there is no neighbor."""


def nearest_neighbors(
    vectors: np.ndarray,
    recordings: np.ndarray,
    k: int,
    *,
    num_probes: int = NUM_PROBES,
    num_lists: int | None = None,
    seed: int = 0,
    on_progress: Callable[[int], object] | None = None,
) -> Neighbors:
    """Find the ``k`` nearest neighbors of every vector that belong to other recordings.

    Args:
        vectors: (N, C) float32 of unit length.
        recordings: (N,) int: equal for windows of the same recording.
        k: Number of neighbors, >= 1.
        num_probes: Lists that a vector is compared with; more find more of the true neighbors and take longer.
        num_lists: L; None makes lists of about a thousand vectors, or one, which is exact, of few vectors.
        seed: Random seed of the lists.
        on_progress: Called with the number of vectors whose list is done, after each list.
    """
    if num_lists is None:
        num_lists = 1 if len(vectors) <= EXACT_ROWS else round(len(vectors) / _ROWS_PER_LIST)
    centers = find_centers(vectors, num_lists, seed)
    probed = nearest_centers(vectors, centers, min(num_probes, num_lists))
    members = _grouped(probed[:, 0], num_lists)
    probers = _grouped(probed.reshape(-1), num_lists)
    points, groups = torch.from_numpy(vectors), torch.from_numpy(np.ascontiguousarray(recordings))
    best = torch.full((len(vectors), k), -torch.inf)
    rows = torch.full((len(vectors), k), -1)
    for inside, places in zip(members, probers, strict=True):
        if len(inside):
            queries = torch.from_numpy(places // probed.shape[1])
            _visit(points, groups, torch.from_numpy(inside), queries, best, rows)
        if on_progress is not None:
            on_progress(len(inside))
    return Neighbors(rows.numpy(), best.numpy())


def _grouped(numbers: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the places of each number in [0, count)."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.cumsum(np.bincount(numbers, minlength=count))[:-1])


def _visit(points: Tensor, groups: Tensor, inside: Tensor, queries: Tensor, best: Tensor, rows: Tensor) -> None:
    """Compare vectors with the members of one list, and keep the best of both; ``best`` and ``rows`` change."""
    k = best.shape[1]
    columns, column_groups = points[inside].T.contiguous(), groups[inside]
    for block in queries.split(max(1, _BLOCK_CELLS // len(inside))):
        cosines = points[block] @ columns
        cosines.masked_fill_(groups[block, None] == column_groups, -torch.inf)
        found = cosines.topk(min(k, len(inside)), dim=1)
        candidates = torch.where(found.values == -torch.inf, -1, inside[found.indices])
        joined = torch.cat([best[block], found.values], dim=1)
        top = joined.topk(k, dim=1)
        best[block] = top.values
        rows[block] = torch.cat([rows[block], candidates], dim=1).gather(1, top.indices)
