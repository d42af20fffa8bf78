"""Schedule of the files to read: an epoch's order, read ahead, with replacements for bad rows.

A read opens one file and makes K clips of it. So that a batch holds B different files, the clips of B reads
(a block) are dealt out over K batches: first the first clip of each, then the second of each ... After a bad file was
replaced, a batch reaches into the next row of clips and may hold a file twice. ::

    reads       r0 r1 r2 r3 | r4 r5 r6 r7 | ...         block of B = 4
    positions   r0.0 r1.0 r2.0 r3.0   r0.1 r1.1 r2.1 r3.1 | r4.0 ...    K = 2: two batches a block

A rank reads its part of the epoch's order, again and again: read i is of row ``order[i % n]``, and its clips have the
numbers ``(i // n) * K`` and following. An epoch ends when enough clips were good. How many reads that takes is only
known as they are done, so the schedule requests as many as are missing, and goes on into the next epoch meanwhile; the
consumer takes clips by position, not by arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from avssl.data.ledger import TooManyBadFiles


class FileRead(NamedTuple):
    """One opening of a file. Plain values, so that it passes to workers."""

    epoch: int
    number: int
    """Number of this read in its epoch, >= 0."""
    row: int
    first_clip: int
    """Clip number of its first clip."""


class Candidate(NamedTuple):
    """A clip of a read."""

    read: FileRead
    clip: int
    """Index of the clip in its read, 0 <= clip < K."""


class ReadSchedule:
    """An endless iterable of lists of reads to do.

    Args:
        order_of: Epoch → (n,) rows of this rank, in order.
        clips_per_epoch: Good clips an epoch needs.
        batch_size: B, reads in a block.
        clips_per_read: K.
        is_bad: True for a row that is known to be bad; must stay true.
    """

    def __init__(
        self,
        order_of: Callable[[int], Tensor],
        clips_per_epoch: int,
        batch_size: int,
        clips_per_read: int,
        is_bad: Callable[[int], bool],
    ) -> None:
        self._order_of, self._clips_per_epoch = order_of, clips_per_epoch
        self._block, self._clips_per_read, self._is_bad = batch_size, clips_per_read, is_bad
        self._list_size = max(1, batch_size // clips_per_read)  # a batch's worth of clips in every list
        self._epochs: dict[int, _Epoch] = {}

    def start(self, epoch: int, position: int, clips_needed: int) -> None:
        """Begin within an epoch, at a position, with this many good clips still needed in it."""
        self._epochs = {epoch: self._epoch(epoch, position, clips_needed)}

    def finish(self, epoch: int) -> None:
        """Drop an epoch of which nothing more is needed."""
        self._epochs.pop(epoch, None)
        self._ensure(epoch + 1)

    def candidate(self, epoch: int, position: int) -> Candidate:
        """Return the candidate at a position."""
        return self._ensure(epoch).candidate(position)

    def drop(self, read: FileRead) -> None:
        """Request a replacement for the clips of a failed read."""
        self._epochs[read.epoch].drop(read.number)

    def check_not_exhausted(self, epoch: int, num_bad: int) -> None:
        """End a search in which this many consecutive positions were bad, if there are no others.

        Raises:
            TooManyBadFiles: If no row of this rank is left.
        """
        self._ensure(epoch).check_not_exhausted(num_bad // self._clips_per_read)

    def __iter__(self) -> Iterator[list[FileRead]]:
        while True:
            unfinished = (epoch for _, epoch in sorted(self._epochs.items()) if epoch.next_read < epoch.stop)
            chosen = next(unfinished, None) or self._ensure(max(self._epochs) + 1)
            if reads := self._take(chosen):
                yield reads

    def _ensure(self, number: int) -> _Epoch:
        if number not in self._epochs:
            self._epochs[number] = self._epoch(number, 0, self._clips_per_epoch)
        return self._epochs[number]

    def _epoch(self, number: int, position: int, clips_needed: int) -> _Epoch:
        return _Epoch(number, self._order_of(number), position, clips_needed, self._block, self._clips_per_read)

    def _take(self, epoch: _Epoch) -> list[FileRead]:
        """Return the next reads of an epoch whose rows are not known to be bad, up to the size of a list."""
        taken: list[FileRead] = []
        skipped = 0
        while len(taken) < self._list_size and epoch.next_read < epoch.stop:
            read = epoch.read(epoch.next_read)
            if self._is_bad(read.row):
                self.drop(read)
                skipped += 1
                epoch.check_not_exhausted(skipped)
            else:
                taken.append(read)
                skipped = 0
            epoch.next_read += 1
        return taken


class _Epoch:
    """Progress of reading ahead in one epoch."""

    def __init__(
        self, number: int, order: Tensor, first_position: int, clips_needed: int, block: int, clips_per_read: int
    ) -> None:
        self.number = number
        self._order = order.numpy()  # a number of it is read in a tenth of the time that a tensor takes
        self._block, self._clips_per_read = block, clips_per_read
        self._first_position, self._clips_needed = first_position, clips_needed
        self.next_read = first_position // (block * clips_per_read) * block  # all of a block that was begun
        if clips_per_read == 1:
            self.next_read = first_position
        self._dropped: set[int] = set()

    @property
    def stop(self) -> int:
        """Number after the last read that is needed, as far as is known."""
        last_position = self._first_position + self._clips_needed + len(self._dropped) * self._clips_per_read
        blocks, rest = divmod(last_position, self._block * self._clips_per_read)
        return blocks * self._block + min(rest, self._block)

    def drop(self, read: int) -> None:
        self._dropped.add(read)

    def check_not_exhausted(self, num_bad: int) -> None:
        if num_bad >= len(self._order):
            raise TooManyBadFiles("every row of this rank's part of the manifest has failed.")

    def candidate(self, position: int) -> Candidate:
        block, rest = divmod(position, self._block * self._clips_per_read)
        clip, within = divmod(rest, self._block)
        return Candidate(self.read(block * self._block + within), clip)

    def read(self, number: int) -> FileRead:
        lap, index = divmod(number, len(self._order))
        return FileRead(self.number, number, int(self._order[index]), lap * self._clips_per_read)
