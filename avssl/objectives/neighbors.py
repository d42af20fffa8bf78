"""Exact nearest neighbors by agreement of two memories, in blocks.

Blocks of queries are scored against all rows in bfloat16, a few more candidates than needed are kept, and they
are ranked again in float32. The result is exact: if bfloat16 rounding might have hidden a neighbor, which the scores
show, the query is searched again in float32.

The bits of bfloat16 scores are compared as int16, which takes a fifth of the time on a CPU: non-negative numbers have
the order of their bits, and are above all negative ones. If a candidate is negative, the query is searched again too.

Dimensions: N rows of the memories, D embedding size, Q queries of a block, C candidates, P neighbors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.errors import InputError

Agreement = Literal["consensus", "union", "video", "audio"]

# Rounding to bfloat16 changes a number by 2^-9 of it at most, and so a cosine of unit vectors by
# 2^-8 through its factors and by 2^-9 through itself.
_ROUNDING = 2.0**-7
# The (Q, N) scores of a block: 16 MiB in bfloat16 on a CPU, where they then stay in the cache, 512 MiB on a
# GPU; but never fewer than 256 queries, as products of a few rows waste most of a processor.
BLOCK_ELEMENTS = {"cpu": 2**23, "cuda": 2**28}
_MIN_BLOCK_ROWS = 256
# Columns are compared in bundles of this many before they are compared one by one.
_BUNDLE = 16


def top_agreements(
    video_memory: Tensor, audio_memory: Tensor, num_neighbors: int, agreement: Agreement, queries: slice = slice(None)
) -> Tensor:
    """Return the rows that agree most with each query row, excluding itself.

    Args:
        video_memory: ``(N, D)`` rows of any scale and floating type; cosines are compared.
        audio_memory: ``(N, D)`` rows of the same instances in the same order.
        num_neighbors: P, in [1, N - 1].
        agreement: "consensus": the lower of the two cosines. "union": the higher. "video" or "audio": that one.
        queries: The N' rows to find neighbors of; default: all.

    Returns:
        ``(N', P)`` int64 row numbers, ascending in each row.

    Raises:
        ValueError: If the memories differ in shape, or an argument is out of range.
    """
    if video_memory.ndim != 2 or video_memory.shape != audio_memory.shape:
        raise InputError(
            "video_memory and audio_memory must hold the same instances, both (N, D), "
            f"got {tuple(video_memory.shape)} and {tuple(audio_memory.shape)}."
        )
    if agreement not in get_args(Agreement):
        raise InputError(f'agreement ({agreement!r}) must be "consensus", "union", "video" or "audio".')
    if not 1 <= num_neighbors < len(video_memory):
        raise InputError(f"num_positives ({num_neighbors}) must be at least 1 and below the {len(video_memory)} rows.")
    rows = torch.arange(len(video_memory), device=video_memory.device)[queries]
    memories = unit_memories(video_memory, audio_memory, agreement)
    search = ExactSearch(memories, num_neighbors, agreement, len(rows))
    found = [search.best(search.queries(block), block)[1].sort(dim=1).values for block in rows.split(search.block_rows)]
    return torch.cat(found) if found else rows.new_empty(0, num_neighbors)


def unit_memories(video: Tensor, audio: Tensor, agreement: Agreement) -> list[Tensor]:
    """Return the (N, D) float32 unit rows of the memories that an agreement compares."""
    chosen = {"video": [video], "audio": [audio]}.get(agreement, [video, audio])
    return [F.normalize(memory.detach().float(), dim=1) for memory in chosen]


class ExactSearch:
    """One search: the memories in both precisions, and a reused buffer for a block of scores.

    Allocating each block would cost as much as the products, once it is too large for the allocator's cache.

    Args:
        memories: (N, D) unit rows to search, from :func:`unit_memories`.
        num_neighbors: P.
        agreement: As for :func:`top_agreements`.
        num_queries: Largest number of queries at a time.
    """

    def __init__(self, memories: Sequence[Tensor], num_neighbors: int, agreement: Agreement, num_queries: int) -> None:
        self.memories, self.num_neighbors, self.agreement = memories, num_neighbors, agreement
        self.num_rows, device = len(memories[0]), memories[0].device
        # The row itself is one of them.
        self.num_candidates = min(self.num_rows, 1 + num_neighbors + 32)
        self.rough = [memory.bfloat16() for memory in memories]
        block_rows = max(_MIN_BLOCK_ROWS, BLOCK_ELEMENTS.get(device.type, 2**23) // max(1, self.num_rows))
        self.block_rows = max(1, min(block_rows, num_queries))
        shape = self.block_rows, self.num_rows
        self.room = [torch.empty(shape, dtype=torch.bfloat16, device=device) for _ in memories]

    def queries(self, rows: Tensor) -> list[Tensor]:
        """Return what is searched for in the name of (Q,) of the rows."""
        return [memory[rows] for memory in self.memories]

    def best(self, queries: Sequence[Tensor], own: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best rows for queries, best first; of rows that are equally good, the lower one is first.

        Args:
            queries: (Q, D) unit rows for each memory, Q at most ``block_rows``.
            own: (Q,) int64 row of each query among those searched, which is left out; negative if it is none of them.

        Returns:
            (Q, P) float32 scores and (Q, P) int64 rows; fewer columns if there are fewer rows. A row that is left out
            has the score minus infinity.
        """
        with torch.autocast(own.device.type, enabled=False):
            candidates, lowest = _top_columns(self._rough_scores(queries), self.num_candidates)
            scores, rows = self._rank(queries, own, candidates)
            if self.num_candidates == self.num_rows:
                return scores, rows  # every row was a candidate
            # No row outside the candidates has a cosine above lowest + rounding.
            unsure = (lowest < 0) | (lowest.view(torch.bfloat16).float() + _ROUNDING >= scores[:, -1])
            if unsure.any():
                queries, own = [query[unsure] for query in queries], own[unsure]
                candidates, _ = _top_columns(self._exact_scores(queries), self.num_candidates)
                scores[unsure], rows[unsure] = self._rank(queries, own, candidates)
            return scores, rows

    def _rough_scores(self, queries: Sequence[Tensor]) -> Tensor:
        """Return the bits of the bfloat16 scores, (Q, N) int16."""
        products = [
            torch.mm(query.bfloat16(), memory.T, out=room[: len(query)])
            for query, memory, room in zip(queries, self.rough, self.room, strict=True)
        ]
        return _combine([product.view(torch.int16) for product in products], self.agreement)

    def _exact_scores(self, queries: Sequence[Tensor]) -> Tensor:
        """Return the (Q, N) float32 scores."""
        products = [query @ memory.T for query, memory in zip(queries, self.memories, strict=True)]
        return _combine(products, self.agreement)

    def _rank(self, queries: Sequence[Tensor], own: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        return best_of(candidates, self.memories, queries, own, self.num_neighbors, self.agreement)


def best_of(
    candidates: Tensor,
    memories: Sequence[Tensor],
    queries: Sequence[Tensor],
    own: Tensor,
    num_neighbors: int,
    agreement: Agreement,
) -> tuple[Tensor, Tensor]:
    """Return the (Q, P) scores and rows of the best (Q, C) candidates, scored in float32, best first.

    Args:
        candidates: (Q, C) int64 rows of the memories, each once; negative for none.
        memories: (N, D) unit rows.
        queries: (Q, D) unit rows, one for each memory.
        own: (Q,) int64 row to leave out, which gets the score minus infinity, as negative ones do.
        num_neighbors: P.
        agreement: As for :func:`top_agreements`.
    """
    # Ascending, so that the sums do not depend on how the candidates were found; equals keep the lower row.
    candidates = candidates.sort(dim=1).values
    rows = candidates.clamp(min=0)
    # embedding copies whole rows; indexing goes number by number on a CPU.
    pairs = [(query, F.embedding(rows, memory)) for query, memory in zip(queries, memories, strict=True)]
    scores = _combine([torch.einsum("qd,qcd->qc", query, theirs) for query, theirs in pairs], agreement)
    scores.masked_fill_((candidates == own[:, None]) | (candidates < 0), -torch.inf)
    best = scores.sort(dim=1, descending=True, stable=True)
    return best.values[:, :num_neighbors], candidates.gather(1, best.indices[:, :num_neighbors])


def _combine(scores: list[Tensor], agreement: Agreement) -> Tensor:
    if len(scores) == 1:
        return scores[0]
    combine = torch.minimum if agreement == "consensus" else torch.maximum
    return combine(*scores, out=scores[0])


def _top_columns(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the (Q, count) int64 columns of the highest scores, unordered, and the (Q,) lowest of these scores.

    The best ``count`` columns lie in the ``count`` bundles with the highest maxima. Taking maxima of
    bundles is one fast pass; the selection then looks at a small part of the columns::

        bundle b holds the columns b, b + G, b + 2 G ...    G bundles, the remainder goes along
    """
    num_columns = scores.shape[1]
    num_bundles = num_columns // _BUNDLE
    if num_bundles < 2 * count:
        best = scores.topk(count, dim=1, sorted=False)
        return best.indices, best.values.amin(dim=1)
    whole = num_bundles * _BUNDLE
    maxima = scores[:, :whole].unflatten(1, (_BUNDLE, num_bundles)).amax(dim=1)
    bundles = maxima.topk(count, dim=1, sorted=False).indices  # (Q, count)
    steps = torch.arange(0, whole, num_bundles, device=scores.device)
    rest = torch.arange(whole, num_columns, device=scores.device).expand(len(scores), -1)
    columns = torch.cat([(bundles[:, :, None] + steps).flatten(1), rest], dim=1)
    best = scores.gather(1, columns).topk(count, dim=1, sorted=False)
    return columns.gather(1, best.indices), best.values.amin(dim=1)
