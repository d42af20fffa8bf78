"""Exchanges that ranks would make in a step, noted in one process: for the plan of a run on many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Exchange:
    """One collective that ranks would make."""

    shapes: tuple[tuple[int, ...], ...]
    """Shapes of this rank's tensors."""
    num_bytes: tuple[int, ...]
    """Bytes of each."""
    has_grad: bool
    """True if gradients come back."""
    is_pairs: bool = False
    """True for columns of a score matrix, of which each rank has W times as many."""
    is_fetch: bool = False
    """True for rows that this rank receives from the ranks that keep them, however many ranks there are."""


_noted: list[Exchange] | None = None


@contextmanager
def noted_exchanges() -> Iterator[list[Exchange]]:
    """Within the context of one process, note what it would exchange with others, to plan for many."""
    global _noted
    before, _noted = _noted, []
    try:
        yield _noted
    finally:
        _noted = before


def note(*tensors: Tensor, is_pairs: bool = False, is_fetch: bool = False) -> None:
    """Note that one process keeps these tensors, which several would exchange."""
    if _noted is not None:
        shapes, sizes = tuple(tuple(x.shape) for x in tensors), tuple(x.nbytes for x in tensors)
        _noted.append(Exchange(shapes, sizes, any(x.requires_grad for x in tensors), is_pairs, is_fetch))
