"""Approximate nearest neighbors by agreement of two memories: rows are compared within a few lists (IVF), by faiss.

Source: Jégou, Douze and Schmid, TPAMI 2011, https://doi.org/10.1109/TPAMI.2010.57, as in faiss, Douze et al., 2024,
https://arxiv.org/abs/2401.08281. Rows are divided into L lists, each around a center, and a query is compared with the
rows of the M lists whose centers are nearest to it.

A row is its video and its audio row side by side, so that a product is the sum of two cosines. The higher cosine is
found by one search for each of the two. Twice the lower one is at most the sum: rows come in the order of their sums
until none that follows can have a higher lower cosine. Within the lists, the result is therefore exact.

Dimensions: N rows of the memories on this rank, Q queries, P neighbors, L lists, M lists that are searched.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from avssl.core.distributed import broadcast_object, gather_together, is_main, world_size
from avssl.core.errors import InputError
from avssl.objectives.neighbors import Agreement, best_of

# Rows from which a center is found: at fewer than 39, faiss warns.
ROWS_A_CENTER = 40
ITERATIONS = 10
_BLOCK_QUERIES = 2**12
# Candidates of a block; with their products 192 MiB.
_BLOCK_CANDIDATES = 2**24
# Numbers of candidates that are ranked at a time: 4 MiB on a CPU, where they stay in the cache, 256 MiB on a GPU.
_RANKED_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}


@dataclass(frozen=True)
class Lists:
    """Number of lists, and of those that are searched for each row.

    Raises:
        InputError: If faiss is not installed.
    """

    count: int = 0
    """L; 0 for four times the square root of the number of rows of all ranks."""
    probes: int = 32
    """M, >= 1; with all lists, the result is that of an exact search."""
    seed: int = 0
    """Random seed of the centers."""

    def __post_init__(self) -> None:
        faiss()

    def count_for(self, num_rows: int) -> int:
        """Return L for the rows of all ranks."""
        return min(self.count or math.ceil(4 * math.sqrt(num_rows)), num_rows)


def faiss() -> ModuleType:
    """Return faiss.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import faiss as library
    except ImportError as error:
        raise InputError(
            'search "ivf" needs faiss: pip install \'avssl[search]\'. search "exact" needs nothing.'
        ) from error
    return library


class ListSearch:
    """One search. Every rank must make it, as centers are those of the rows of all ranks.

    Args:
        memories: (N, D) unit rows of this rank, of one or both modalities.
        num_neighbors: P.
        agreement: As for :func:`~avssl.objectives.neighbors.top_agreements`.
        lists: How to divide the rows.
        num_rows: Number of rows of all ranks.
    """

    def __init__(
        self, memories: Sequence[Tensor], num_neighbors: int, agreement: Agreement, lists: Lists, num_rows: int
    ) -> None:
        self.memories, self.num_neighbors, self.agreement = memories, num_neighbors, agreement
        self.num_rows, self.block_rows = len(memories[0]), _BLOCK_QUERIES
        joined = torch.cat([*memories], dim=1)
        library = faiss()
        library.omp_set_num_threads(torch.get_num_threads())  # a setting of the run, on which the centers' bits depend
        self.centers = _centers(joined, lists, num_rows)
        self.probes = min(lists.probes, len(self.centers))
        quantizer = library.IndexFlatIP(joined.shape[1])
        quantizer.add(self.centers.cpu().numpy())
        count = len(self.centers)
        self.index = library.IndexIVFFlat(quantizer, joined.shape[1], count, library.METRIC_INNER_PRODUCT)
        self.index.nprobe = self.probes
        nearest = torch.cat([self._lists_of(block, 1)[:, 0] for block in joined.split(_BLOCK_QUERIES)])
        tools = importlib.import_module("faiss.contrib.ivf_tools")
        tools.add_preassigned(self.index, joined.cpu().numpy(), nearest.cpu().numpy())

    def queries(self, rows: Tensor) -> list[Tensor]:
        """Return what is searched for in the name of (Q,) of the rows: their unit rows, and their (Q, M) lists."""
        own = [memory[rows] for memory in self.memories]
        return [*own, self._lists_of(torch.cat(own, dim=1), self.probes).int()]

    def _lists_of(self, joined: Tensor, count: int) -> Tensor:
        """Return the (Q, count) lists whose centers are nearest; on the device of the rows."""
        return (joined @ self.centers.T).topk(count, dim=1).indices

    def best(self, queries: Sequence[Tensor], own: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best rows in the lists of the queries, best first.

        Args:
            queries: What :meth:`queries` returns, of any rank.
            own: (Q,) int64 row to leave out; negative if it is none of this rank's.

        Returns:
            (Q, P) float32 scores and (Q, P) int64 rows; fewer columns if there are fewer rows. Where the lists have no
            further row, the score is minus infinity.
        """
        with torch.autocast(own.device.type, enabled=False):
            return self._best(queries, own, min(self.num_rows, 1 + self.num_neighbors + 32))

    def _best(self, queries: Sequence[Tensor], own: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the best of so many candidates, and of more where these might not suffice."""
        size = max(1, _BLOCK_CANDIDATES // count)
        blocks = zip(own.split(size), *(query.split(size) for query in queries), strict=True)
        parts = [self._best_of_block(block, mine, count) for mine, *block in blocks]
        scores, rows = (torch.cat(each) for each in zip(*parts, strict=True))
        return scores, rows

    def _best_of_block(self, queries: Sequence[Tensor], own: Tensor, count: int) -> tuple[Tensor, Tensor]:
        *vectors, lists = queries
        candidates, last = self._candidates(vectors, lists, count)
        scores, rows = self._ranked(candidates, vectors, own)
        if self.agreement == "consensus" and count < self.num_rows:
            unsure = 2 * scores[:, -1] < last
            if unsure.any():
                more = [query[unsure] for query in queries]
                scores[unsure], rows[unsure] = self._best(more, own[unsure], min(self.num_rows, 4 * count))
        return scores, rows

    def _ranked(self, candidates: Tensor, vectors: Sequence[Tensor], own: Tensor) -> tuple[Tensor, Tensor]:
        elements = _RANKED_ELEMENTS.get(own.device.type, 2**20)
        size = max(1, elements // (candidates.shape[1] * vectors[0].shape[1]))
        blocks = zip(candidates.split(size), own.split(size), *(x.split(size) for x in vectors), strict=True)
        ranked = [
            best_of(some, self.memories, queries, mine, self.num_neighbors, self.agreement)
            for some, mine, *queries in blocks
        ]
        scores, rows = (torch.cat(each) for each in zip(*ranked, strict=True))
        return scores, rows

    def _candidates(self, vectors: Sequence[Tensor], lists: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return (Q, C) rows, each once and negative for none, and the (Q,) sums of cosines that no other exceeds."""
        if self.agreement != "union":
            return self._nearest(torch.cat([*vectors], dim=1), lists, count)
        video, audio = vectors
        sides = [torch.cat([video, torch.zeros_like(audio)], dim=1), torch.cat([torch.zeros_like(video), audio], dim=1)]
        rows = torch.cat([self._nearest(side, lists, count)[0] for side in sides], dim=1).sort(dim=1).values
        rows[:, 1:].masked_fill_(rows.diff(dim=1) == 0, -1)
        return rows, torch.zeros_like(rows[:, 0])

    def _nearest(self, joined: Tensor, lists: Tensor, count: int) -> tuple[Tensor, Tensor]:
        products, rows = self.index.search_preassigned(
            joined.cpu().numpy(), count, lists.cpu().numpy().astype(np.int64), None
        )
        # Where the lists have no further row, faiss returns the row -1 and the smallest number.
        last = np.where(rows[:, -1] < 0, -np.inf, products[:, -1]).astype(np.float32)
        return torch.from_numpy(rows).to(joined.device), torch.from_numpy(last).to(joined.device)


def _centers(joined: Tensor, lists: Lists, num_rows: int) -> Tensor:
    """Return the (L, D) unit centers of the rows of all ranks, from a sample of each rank's."""
    count = lists.count_for(num_rows)
    share = -(-ROWS_A_CENTER * count // world_size())
    size = min(share, -(-num_rows // world_size()))  # equally many of each rank, some of them twice
    if len(joined):
        sample = joined[torch.linspace(0, len(joined) - 1, size, device=joined.device).long()]
    else:
        sample = joined.new_zeros(size, joined.shape[1])
    (sample,) = gather_together(sample)
    centers = None
    if is_main():
        kept = sample[sample.abs().amax(dim=1) > 0].cpu().numpy()
        count = min(count, len(kept))
        k_means = faiss().Kmeans(
            kept.shape[1], count, niter=ITERATIONS, seed=lists.seed, spherical=True, min_points_per_centroid=1
        )
        k_means.train(kept)
        centers = torch.from_numpy(k_means.centroids)
    found = broadcast_object(centers)
    assert found is not None, "rank 0 has them"
    return found.to(joined.device)
