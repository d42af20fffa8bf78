"""Which files to visit next: a pass's order, read ahead, with replacements for bad rows.

A visit opens one file and gives K clips of it. So that a batch holds B different files, the clips of B visits
(a block) are dealt out over K batches: first the first clip of each, then the second of each ... Where a bad file is
replaced, a batch reaches into the next row of clips and may hold a file twice. ::

    visits    v0 v1 v2 v3 | v4 v5 v6 v7 | ...         block of B = 4
    places    v0.0 v1.0 v2.0 v3.0   v0.1 v1.1 v2.1 v3.1 | v4.0 ...    K = 2: two batches a block

A rank's visits in a pass go through its own part of the pass's order, again and again: visit i is of row
``order[i % n]``, and its clips are number ``(i // n) * K`` and following. A pass ends when enough clips were good.
How many visits that takes is only known while they are read, so the plan asks for as many as are missing, and reads
on into the next pass meanwhile; the consumer takes clips by place, not by arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from avssl.data.ledger import TooManyBadFiles


class Visit(NamedTuple):
    """One opening of a file. Plain values, so that it passes to workers."""

    epoch: int
    number: int
    """Of this visit in its pass, >= 0."""
    row: int
    first_clip: int
    """Clip number of its first clip."""


class Place(NamedTuple):
    """Where a clip comes in the order of its pass, and which one it is."""

    visit: Visit
    clip: int
    """Which of the visit's clips, 0 <= clip < K."""


class Plan:
    """An endless iterable of lists of visits to make.

    Args:
        order_of: (n,) rows of this rank in a pass, by the number of the pass.
        clips_per_epoch: Good clips a pass needs.
        batch_size: B, visits in a block.
        clips_per_visit: K.
        is_bad: Whether a row is known to be bad; once true of a row, it stays true.
    """

    def __init__(
        self,
        order_of: Callable[[int], Tensor],
        clips_per_epoch: int,
        batch_size: int,
        clips_per_visit: int,
        is_bad: Callable[[int], bool],
    ) -> None:
        self._order_of, self._clips_per_epoch = order_of, clips_per_epoch
        self._block, self._clips_per_visit, self._is_bad = batch_size, clips_per_visit, is_bad
        self._list_size = max(1, batch_size // clips_per_visit)  # a batch's worth of clips in every list
        self._epochs: dict[int, _Pass] = {}

    def start(self, epoch: int, place: int, clips_needed: int) -> None:
        """Begins within a pass, at a place, with so many good clips to come in it."""
        self._epochs = {epoch: self._epoch(epoch, place, clips_needed)}

    def finish(self, epoch: int) -> None:
        """Nothing more of a pass is needed."""
        self._epochs.pop(epoch, None)
        self._ensure(epoch + 1)

    def candidate(self, epoch: int, place: int) -> Place:
        """The candidate at a place."""
        return self._ensure(epoch).candidate(place)

    def drop(self, visit: Visit) -> None:
        """A visit gave nothing: its clips are to be replaced."""
        self._epochs[visit.epoch].drop(visit.number)

    def refuse_endless(self, epoch: int, num_bad: int) -> None:
        """Ends a search in which so many places in a row were bad, if that is all there are.

        Raises:
            TooManyBadFiles: If no row of this rank is left.
        """
        self._ensure(epoch).refuse_endless(num_bad // self._clips_per_visit)

    def __iter__(self) -> Iterator[list[Visit]]:
        while True:
            unfinished = (p for _, p in sorted(self._epochs.items()) if p.next_visit < p.stop)
            chosen = next(unfinished, None) or self._ensure(max(self._epochs) + 1)
            if visits := self._take(chosen):
                yield visits

    def _ensure(self, number: int) -> _Pass:
        if number not in self._epochs:
            self._epochs[number] = self._epoch(number, 0, self._clips_per_epoch)
        return self._epochs[number]

    def _epoch(self, number: int, place: int, clips_needed: int) -> _Pass:
        return _Pass(number, self._order_of(number), place, clips_needed, self._block, self._clips_per_visit)

    def _take(self, chosen: _Pass) -> list[Visit]:
        """The next visits of a pass whose rows are not known to be bad, up to the size of a list."""
        taken: list[Visit] = []
        skipped = 0
        while len(taken) < self._list_size and chosen.next_visit < chosen.stop:
            visit = chosen.visit(chosen.next_visit)
            if self._is_bad(visit.row):
                self.drop(visit)
                skipped += 1
                chosen.refuse_endless(skipped)
            else:
                taken.append(visit)
                skipped = 0
            chosen.next_visit += 1
        return taken


class _Pass:
    """Progress of reading ahead in one pass."""

    def __init__(
        self, number: int, order: Tensor, first_place: int, clips_needed: int, block: int, clips_per_visit: int
    ) -> None:
        self.number, self.order = number, order
        self._block, self._clips_per_visit = block, clips_per_visit
        self._first_place, self._clips_needed = first_place, clips_needed
        self.next_visit = first_place // (block * clips_per_visit) * block  # all of a block that was begun
        if clips_per_visit == 1:
            self.next_visit = first_place
        self._dropped: set[int] = set()

    @property
    def stop(self) -> int:
        """Number after the last visit that is needed, as far as is known."""
        last_place = self._first_place + self._clips_needed + len(self._dropped) * self._clips_per_visit
        blocks, rest = divmod(last_place, self._block * self._clips_per_visit)
        return blocks * self._block + min(rest, self._block)

    def drop(self, visit: int) -> None:
        self._dropped.add(visit)

    def refuse_endless(self, num_bad: int) -> None:
        if num_bad >= len(self.order):
            raise TooManyBadFiles("every row of this rank's part of the manifest has failed.")

    def candidate(self, place: int) -> Place:
        block, rest = divmod(place, self._block * self._clips_per_visit)
        clip, within = divmod(rest, self._block)
        return Place(self.visit(block * self._block + within), clip)

    def visit(self, number: int) -> Visit:
        lap, position = divmod(number, len(self.order))
        return Visit(self.number, number, int(self.order[position]), lap * self._clips_per_visit)
