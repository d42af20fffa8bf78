"""Rows of a table that is divided over ranks: fetched by number, and put together again.

Rank r holds the S rows from r * S on. A rank sends each other rank the numbers that it needs and receives those rows::

    rank 0 (rows 0 ... S - 1)      needs 1, S + 4 ── S + 4 ──▸ rank 1
    rank 1 (rows S ... 2 S - 1)                   ◂── row ───

Sizes of messages depend on the numbers, so the host waits for them once in each fetch.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from avssl.core.distributed import is_main, rank, world_size


@torch.no_grad()
def fetch_rows(own: Tensor, numbers: Tensor) -> Tensor:
    """Return the rows of the whole table with these numbers; every rank must call it.

    Args:
        own: (S, D) rows of this rank, equally many on every rank.
        numbers: (...) int64 in [0, W * S), other ones on every rank.

    Returns:
        (..., D), the same bits as the whole table's.
    """
    wanted, order = numbers.flatten().sort(stable=True)
    num_wanted = torch.bincount(wanted // len(own), minlength=world_size())
    num_asked = torch.empty_like(num_wanted)
    dist.all_to_all_single(num_asked, num_wanted)
    to_get, to_give = num_wanted.tolist(), num_asked.tolist()
    asked = wanted.new_empty(sum(to_give))
    dist.all_to_all_single(asked, wanted, to_give, to_get)
    given = own.index_select(0, asked - rank() * len(own)).view(torch.uint8)
    received = given.new_empty(len(wanted), given.shape[1])
    dist.all_to_all_single(received, given, to_get, to_give)
    rows = torch.empty_like(received).index_copy_(0, order, received).view(own.dtype)
    return rows.view(*numbers.shape, own.shape[1])


def whole_table(own: Tensor, num_rows: int) -> Tensor:
    """Return the (num_rows, D) table on the host of rank 0, for a checkpoint; every rank must call it.

    On other ranks it has the same shape, and no memory.
    """
    part = own.cpu().contiguous()
    everyone = [torch.empty_like(part).view(torch.uint8) for _ in range(world_size())] if is_main() else None
    dist.gather(part.view(torch.uint8), everyone)
    if everyone is None:
        return part.new_zeros(1, 1).expand(num_rows, part.shape[1])
    return torch.cat([x.view(part.dtype) for x in everyone])[:num_rows]
