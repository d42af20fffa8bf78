"""Tables with a row for each clip of a corpus, whole on every rank or divided over ranks.

Rank r keeps the S = N / W rows from r * S on, and fetches others by number from the ranks that keep them::

    rank 0 (rows 0 ... S - 1)      needs 1, S + 4 ── S + 4 ──▸ rank 1
    rank 1 (rows S ... 2 S - 1)                   ◂── row ───

Sizes of messages depend on the numbers, so the host waits for them once in each fetch. In a state a divided table is a
sharded tensor (DTensor), of which each rank saves and loads its part.

Dimensions: N rows, W ranks, S rows of a rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.distributed import gather_together, rank, total, world_size
from avssl.core.exchanges import note
from avssl.core.sharded import is_sharded


@dataclass(frozen=True)
class Division:
    """Placement of the rows of a table: all on every rank, or each on one of them.

    The buffer of a divided table has S + 1 rows: this rank's, fewer on the last ranks, and one that takes what is
    written to rows of other ranks, which nobody reads.
    """

    num_rows: int
    """N."""
    requested: bool = False
    """Divide the rows, if there are several ranks."""

    @property
    def is_divided(self) -> bool:
        """True if this rank keeps a part of the rows only."""
        return self.requested and world_size() > 1

    @property
    def share(self) -> int:
        """S; N if the rows are not divided."""
        return -(-self.num_rows // world_size()) if self.is_divided else self.num_rows

    @property
    def size(self) -> int:
        """Number of rows of a buffer."""
        return self.share + 1 if self.is_divided else self.num_rows

    @property
    def own(self) -> slice:
        """Numbers of the rows that this rank keeps."""
        if not self.is_divided:
            return slice(0, self.num_rows)
        first = min(self.num_rows, rank() * self.share)
        return slice(first, min(self.num_rows, first + self.share))

    def mine(self, buffer: Tensor, dim: int = 0) -> Tensor:
        """Return the rows of a buffer that belong to this rank, sharing its memory."""
        return buffer.narrow(dim, 0, self.own.stop - self.own.start)

    def padded(self, own: Tensor, dim: int = 0) -> Tensor:
        """Return a buffer with this rank's rows; its other rows are 0."""
        missing = self.size - own.shape[dim]
        return F.pad(own, (*(0, 0) * (own.ndim - 1 - dim), 0, missing)) if missing else own

    def gathered(self, own: Tensor) -> Tensor:
        """Return the whole table on every rank from each rank's rows; every rank must call it."""
        if not self.is_divided:
            return own
        missing = self.share - len(own)
        return gather_together(F.pad(own, (*(0, 0) * (own.ndim - 1), 0, missing)))[0][: self.num_rows]

    def total(self, x: Tensor) -> Tensor:
        """Return the sum over all rows from that over this rank's; every rank must call it."""
        return total(x) if self.is_divided else x

    def places(self, numbers: Tensor) -> Tensor:
        """Return the place in a buffer of each row; those of other ranks have the last one."""
        if not self.is_divided:
            return numbers
        place = numbers - rank() * self.share
        return torch.where((place >= 0) & (place < self.share), place, self.share)

    @torch.no_grad()
    def fetch(self, buffer: Tensor, numbers: Tensor) -> Tensor:
        """Return the (..., D) rows of a (size, D) buffer with these (...) numbers; every rank must call it."""
        if self.is_divided:
            return fetch_rows(buffer[: self.share], numbers)
        # Equals buffer[numbers], which copies number by number on a CPU; this copies whole rows.
        rows = buffer.index_select(0, numbers.flatten()).view(*numbers.shape, buffer.shape[1])
        if self.requested:
            note(rows, is_fetch=True)
        return rows

    def sharded(self, own: Tensor, dim: int = 0) -> Tensor:
        """Return the whole table as a sharded tensor of which this rank has its own rows."""
        from torch.distributed.device_mesh import init_device_mesh  # an import that takes a second
        from torch.distributed.tensor import DTensor, Shard

        shape = torch.Size((*own.shape[:dim], self.num_rows, *own.shape[dim + 1 :]))
        mesh = init_device_mesh(own.device.type, (world_size(),))
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(own.contiguous(), mesh, [Shard(dim)], run_check=False, shape=shape, stride=stride)

    def loaded(self, table: Tensor, dim: int = 0) -> Tensor:
        """Return the buffer of a table of a state, whole or sharded, with its rows in this order."""
        if not self.is_divided:
            return table
        own = _part(table, dim) if is_sharded(table) else table[(slice(None),) * dim + (self.own,)]
        return self.padded(own, dim)

    def reordered(self, table: Tensor, source: Tensor, found: Tensor, others: Tensor, dim: int = 0) -> Tensor:
        """Return a table of a state of other rows, whole or sharded, with its rows in this order.

        Args:
            table: The table, with any number of rows.
            source: (N,) int64 number in the table of each row.
            found: (N,) bool, True for rows that the table has.
            others: Buffer with the values of the rows that it lacks.
            dim: Dimension of the rows.
        """
        source, found, own = source[self.own], found[self.own], self.mine(others, dim)
        if is_sharded(table):
            part = _part(table, dim).movedim(dim, 0)
            rows = part.flatten(1) if part.ndim > 1 else part[:, None]
            share = -(-table.shape[dim] // world_size())
            taken = fetch_rows(F.pad(rows, (0, 0, 0, share - len(rows))), source.to(rows.device))
            taken = taken.view(len(source), *part.shape[1:]).movedim(0, dim)
        else:
            taken = table.index_select(dim, source.to(table.device))
        known = found.view(-1, *(1,) * (own.ndim - 1 - dim))
        merged = torch.where(known, taken.to(own), own)
        return self.sharded(merged, dim) if self.is_divided else merged


class RowBuffers(nn.Module):
    """Module with buffers that have a row for each clip of a corpus, divided over ranks if its division says so.

    Every rank must call ``state_dict`` and ``load_state_dict``. A state of any number of ranks can be loaded.
    """

    row_buffers: ClassVar[Mapping[str, int]]
    """Names of these buffers, and the dimension of the rows in each."""
    division: Division

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.division.is_divided:
            for name, dim in self.row_buffers.items():
                own = self.division.mine(destination[prefix + name], dim)
                destination[prefix + name] = self.division.sharded(own, dim)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        present = {name: dim for name, dim in self.row_buffers.items() if prefix + name in state_dict}
        buffers = {prefix + name: self.division.loaded(state_dict[prefix + name], dim) for name, dim in present.items()}
        super()._load_from_state_dict(dict(state_dict) | buffers, prefix, *rest)


def divided_buffers(module: nn.Module) -> list[Tensor]:
    """Return the buffers that a module is to divide over ranks, if there are several."""
    parts = [part for part in module.modules() if isinstance(part, RowBuffers) and part.division.requested]
    return [getattr(part, name) for part in parts for name in part.row_buffers]


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


def _part(table: Tensor, dim: int) -> Tensor:
    """Return this rank's rows of a sharded table."""
    from torch.distributed.tensor import DTensor, Shard

    assert isinstance(table, DTensor), "sharded"
    part: Tensor = table.redistribute(placements=[Shard(dim)]).to_local()
    return part
