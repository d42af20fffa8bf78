"""Nearest neighbors by agreement among rows that are divided over ranks: a product in blocks that no rank holds whole.

Blocks of queries go round: every rank searches its own rows for the queries of all ranks, and returns its best to the
rank that asked, which merges them. In one block, with q queries of each rank::

    rank 0 (rows 0 ... S - 1)      queries 0 ── all ──▸ best of 0 ... S - 1       for queries 0 and 1 ──▸ merged for 0
    rank 1 (rows S ... 2 S - 1)    queries 1 ── all ──▸ best of S ... 2 S - 1     for queries 0 and 1 ──▸ merged for 1

Beside its rows, a rank needs the memory of one block. It receives the unit rows of all others once, and P scores and
numbers of each of its own rows from every rank.

Dimensions: N rows, W ranks, n rows of this rank, D embedding size, P neighbors, q queries of a rank in a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.distributed import gather_together, largest, swap_blocks, world_size
from avssl.core.divided_rows import Division
from avssl.objectives.inverted_lists import Lists, ListSearch
from avssl.objectives.neighbors import Agreement, ExactSearch, unit_memories


class Search(Protocol):
    """A search among the rows of this rank; queries are those of any rank."""

    num_rows: int
    num_neighbors: int
    block_rows: int

    def queries(self, rows: Tensor) -> list[Tensor]:
        """Return what is sent to search for (q,) rows of this rank."""

    def best(self, queries: Sequence[Tensor], own: Tensor) -> tuple[Tensor, Tensor]:
        """Return up to P scores and rows of this rank for each query."""


@torch.no_grad()
def divided_agreements(
    video: Tensor,
    audio: Tensor,
    num_neighbors: int,
    agreement: Agreement,
    division: Division,
    lists: Lists | None = None,
) -> Tensor:
    """Return the rows of all ranks that agree most with each row of this rank, excluding itself.

    Every rank must call it. Without ``lists`` the result is that of
    :func:`~avssl.objectives.neighbors.top_agreements` of the whole memories.

    Args:
        video: (n, D) rows that this rank keeps, of any scale and floating type.
        audio: (n, D) rows of the same instances in the same order.
        num_neighbors: P, in [1, N - 1].
        agreement: As for :func:`~avssl.objectives.neighbors.top_agreements`.
        division: Where the rows are.
        lists: Search within lists. Queries whose lists hold fewer than P rows are searched exactly.

    Returns:
        (n, P) int64 row numbers, ascending in each row.
    """
    memories = unit_memories(video, audio, agreement)
    wanted = torch.arange(len(video), device=video.device)
    rows = wanted.new_empty(len(video), num_neighbors)
    if lists is not None:
        search = ListSearch(memories, num_neighbors, agreement, lists, division.num_rows)
        scores, rows = _neighbors(search, wanted, division)
        wanted = wanted[scores[:, -1] == -torch.inf]
    if largest(len(wanted)):
        exact = ExactSearch(memories, num_neighbors, agreement, division.share * world_size())
        rows[wanted] = _neighbors(exact, wanted, division)[1]
    return rows.sort(dim=1).values


def _neighbors(search: Search, wanted: Tensor, division: Division) -> tuple[Tensor, Tensor]:
    """Return the (n, P) scores and rows, best first, of (n,) rows of this rank; n may differ between ranks."""
    most = largest(len(wanted))
    size = -(-most // -(-most * world_size() // search.block_rows))  # blocks of equal size
    blocks = (wanted[start : start + size] for start in range(0, most, size))
    scores, rows = zip(*(_neighbors_of_block(search, block, size, division) for block in blocks), strict=True)
    return torch.cat(scores), torch.cat(rows)


def _neighbors_of_block(search: Search, block: Tensor, size: int, division: Division) -> tuple[Tensor, Tensor]:
    """Return the (b, P) scores and rows of b <= ``size`` rows of this rank; every rank gives ``size`` queries."""
    first, missing = division.own.start, size - len(block)
    number = F.pad(block + first, (0, missing), value=-1)
    queries = [F.pad(query, (0, 0, 0, missing)) for query in search.queries(block)]
    number, *queries = gather_together(number, *queries)
    if search.num_rows:
        scores, rows = search.best(queries, number - first)
    else:
        scores, rows = queries[0].new_empty(len(number), 0), number.new_empty(len(number), 0)
    rows = torch.where(scores == -torch.inf, -1, rows + first)
    lacking = search.num_neighbors - scores.shape[1]
    scores, rows = F.pad(scores, (0, lacking), value=-torch.inf), F.pad(rows, (0, lacking), value=-1)
    # (W * size, P) of this rank's rows to (size, W * P) of all ranks' for the queries of this one.
    shape = world_size(), size, search.num_neighbors
    scores, rows = (swap_blocks(x.reshape(shape)).transpose(0, 1).flatten(1)[: len(block)] for x in (scores, rows))
    # Of equals the lowest row is first: those of a rank are in this order, and the ranks are too.
    best = scores.sort(dim=1, descending=True, stable=True)
    return best.values[:, : search.num_neighbors], rows.gather(1, best.indices[:, : search.num_neighbors])
