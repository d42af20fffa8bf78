"""Which clips to read next: a pass's order, read ahead, with replacements for bad rows.

A rank's candidates in a pass are its own part of the pass's order, repeated: position i is row
``order[i % n]`` and clip number ``i // n``. A pass ends when enough candidates were good. How many
are needed is only known while they are read, so the plan asks for as many as are missing, and
reads on into the next pass meanwhile; the consumer takes results by position, not by arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from avssl.data.ledger import TooManyBadFiles


class Position(NamedTuple):
    """One candidate. Plain values, so that it passes to workers."""

    pass_number: int
    place: int
    """Number of this candidate in its pass, >= 0."""
    row: int
    clip_number: int


class Plan:
    """An endless iterable of lists of candidates to read.

    Args:
        order_of: (n,) rows of this rank in a pass, by the number of the pass.
        clips_per_pass: Good clips a pass needs.
        list_size: Longest list.
        is_bad: Whether a row is known to be bad; once true of a row, it stays true.
    """

    def __init__(
        self, order_of: Callable[[int], Tensor], clips_per_pass: int, list_size: int, is_bad: Callable[[int], bool]
    ) -> None:
        self._order_of, self._clips_per_pass = order_of, clips_per_pass
        self._list_size, self._is_bad = list_size, is_bad
        self._passes: dict[int, _Pass] = {}

    def start(self, pass_number: int, place: int, clips_needed: int) -> None:
        """Begins within a pass, at a place, with so many good clips to come in it."""
        self._passes = {pass_number: _Pass(pass_number, self._order_of(pass_number), place, clips_needed)}

    def finish(self, pass_number: int) -> None:
        """Nothing more of a pass is needed."""
        self._passes.pop(pass_number, None)
        self._ensure(pass_number + 1)

    def candidate(self, pass_number: int, place: int) -> Position:
        """The candidate at a place."""
        return self._ensure(pass_number).candidate(place)

    def drop(self, position: Position) -> None:
        """A candidate was no good: one more is needed."""
        self._passes[position.pass_number].dropped.add(position.place)

    def refuse_endless(self, pass_number: int, num_bad: int) -> None:
        """Ends a search in which so many candidates in a row were bad, if that is all there are.

        Raises:
            TooManyBadFiles: If no row of this rank is left.
        """
        self._ensure(pass_number).refuse_endless(num_bad)

    def __iter__(self) -> Iterator[list[Position]]:
        while True:
            unfinished = (p for _, p in sorted(self._passes.items()) if p.next_place < p.stop)
            chosen = next(unfinished, None) or self._ensure(max(self._passes) + 1)
            if positions := self._take(chosen):
                yield positions

    def _ensure(self, number: int) -> _Pass:
        if number not in self._passes:
            self._passes[number] = _Pass(number, self._order_of(number), 0, self._clips_per_pass)
        return self._passes[number]

    def _take(self, chosen: _Pass) -> list[Position]:
        """The next candidates of a pass that are not known to be bad, up to the size of a list."""
        taken: list[Position] = []
        skipped = 0
        while len(taken) < self._list_size and chosen.next_place < chosen.stop:
            position = chosen.candidate(chosen.next_place)
            if self._is_bad(position.row):
                self.drop(position)
                skipped += 1
                chosen.refuse_endless(skipped)
            else:
                taken.append(position)
                skipped = 0
            chosen.next_place += 1
        return taken


class _Pass:
    """Progress of reading ahead in one pass."""

    def __init__(self, number: int, order: Tensor, first_place: int, clips_needed: int) -> None:
        self.number, self.order = number, order
        self.next_place = self._first_place = first_place
        self._clips_needed = clips_needed
        self.dropped: set[int] = set()

    @property
    def stop(self) -> int:
        """Place after the last one that is needed, as far as is known."""
        return self._first_place + self._clips_needed + len(self.dropped)

    def refuse_endless(self, num_bad: int) -> None:
        if num_bad >= len(self.order):
            raise TooManyBadFiles("every row of this rank's part of the manifest has failed.")

    def candidate(self, place: int) -> Position:
        return Position(self.number, place, int(self.order[place % len(self.order)]), place // len(self.order))
