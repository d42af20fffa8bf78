"""Sharded tensors (DTensor), of which each rank holds a part, and whole ones, by the same functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:  # its import takes a second, which one process need not wait for
    from torch.distributed.device_mesh import DeviceMesh


def is_sharded(x: Tensor) -> bool:
    """Return True for a DTensor, of which each rank holds a part."""
    return hasattr(x, "to_local")


def part_like(x: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor, which every rank has, sharded as ``like`` is; without communication.

    Where ``like`` is whole, or ``x`` is sharded already, it is returned as it is.
    """
    if not is_sharded(like) or is_sharded(x):
        return x
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor), "sharded"
    return distribute_tensor(x.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def local_part(x: Tensor) -> Tensor:
    """Return this rank's part of a sharded tensor, sharing its memory; another tensor as it is.

    Parts are enough for what works on each number alone, and need no communication.
    """
    if not is_sharded(x):
        return x
    part: Tensor = x.to_local()  # type: ignore[attr-defined]
    return part


def mesh_of(tensors: Iterable[Tensor]) -> DeviceMesh | None:
    """Return the ranks that share the first sharded tensor, or None if all tensors are whole."""
    mesh: DeviceMesh | None = next((x.device_mesh for x in tensors if is_sharded(x)), None)  # type: ignore[attr-defined]
    return mesh


def full(x: Tensor) -> Tensor:
    """Return the whole of a sharded tensor on every rank; another tensor as it is. Every rank must call it."""
    if not is_sharded(x):
        return x
    gathered: Tensor = x.full_tensor()  # type: ignore[attr-defined]
    return gathered
