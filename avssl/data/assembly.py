"""Batches made from what workers read: clips in their order, with others in place of those that cannot be read.

It may run in a thread of its own, ahead of the training. It therefore changes nothing that is saved: whoever takes a
batch gets with it what to note about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from avssl.core.batch import Batch
from avssl.data.collate import raw_batch
from avssl.data.dataset import ClipDataset
from avssl.data.ledger import Failure, Ledger
from avssl.data.packing import PackedClips, gather
from avssl.data.read_schedule import FileRead, ReadSchedule
from avssl.data.transfer import Ready, Transfer
from avssl.data.workers import Chunk


@dataclass(frozen=True)
class Assembled:
    """A batch, and what the loader notes when it hands it out."""

    batch: Ready | None
    """None after the last failures before an error."""
    position: int
    """Position in the epoch after the batch."""
    failures: list[Failure]
    """Rows that failed on the way, in their order."""


class Assembly:
    """Makes the batches of an iteration.

    Args:
        dataset: Gives the index of a batch.
        schedule: What is read.
        chunks: Results of the reads of ``schedule``, in order.
        known: Rows that are bad; it grows as more are found.
        batch_size: Clips of a batch.
        clips_per_read: Clips of a read.
        transfer: Takes batches to the device.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        schedule: ReadSchedule,
        chunks: Iterator[Chunk[FileRead]],
        known: Ledger,
        *,
        batch_size: int,
        clips_per_read: int,
        transfer: Transfer,
    ) -> None:
        self._dataset, self._schedule, self._known, self._transfer = dataset, schedule, known, transfer
        self._batch_size, self._clips_per_read = batch_size, clips_per_read
        self._arrivals = _Arrivals(chunks)

    def begin(self) -> None:
        """Start the reading, and wait for its first results."""
        self._arrivals.wait_for_any()

    def batches(self, epoch: int, position: int, count: int) -> Iterator[Assembled]:
        """Yield ``count`` batches of an epoch, from a position on."""
        for _ in range(count):
            failures: list[Failure] = []
            try:
                batch, position = self._next(epoch, position, failures)
            except Exception:
                yield Assembled(None, position, failures)
                raise
            yield Assembled(batch, position, failures)

    def finish(self, epoch: int, known: Ledger) -> None:
        """End an epoch; ``known`` are the bad rows of all ranks."""
        self._known.load_state_dict(known.state_dict())
        self._schedule.finish(epoch)
        self._arrivals.forget_epoch(epoch)

    def _next(self, epoch: int, position: int, failures: list[Failure]) -> tuple[Ready, int]:
        clips, position = self._choose(epoch, position, failures)
        return self._transfer.start(partial(self._make, clips, epoch)), position

    def _choose(self, epoch: int, position: int, failures: list[Failure]) -> tuple[list[_Arrived], int]:
        """Return the next B good clips from a position on, and the position after them."""
        clips: list[_Arrived] = []
        num_bad = 0
        while len(clips) < self._batch_size:
            read, index = self._schedule.candidate(epoch, position)
            position += 1
            # A row that failed once is out from then on, even if another window of it was read
            # ahead without fault: otherwise the stream would depend on how far workers read ahead.
            outcome = None if read.row in self._known else self._arrivals.wait_for(read)
            if isinstance(outcome, Failure):
                failures.append(outcome)
                self._known.add([outcome])
            if isinstance(outcome, list):
                clips.append(outcome[index])
                num_bad = 0
                if index == self._clips_per_read - 1:
                    self._arrivals.forget(read)
            else:
                self._schedule.drop(read)
                num_bad += 1
                self._schedule.check_not_exhausted(epoch, num_bad)
        return clips, position

    def _make(self, clips: list[_Arrived], epoch: int) -> Batch:
        index = self._dataset.index([clip.row for clip in clips], epoch, [clip.number for clip in clips])
        parts = [(clip.packed, clip.place) for clip in clips]
        return raw_batch(gather(parts, self._transfer.empty, keep_int16=self._transfer.keeps_int16), index)


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A clip that was read."""

    packed: PackedClips
    place: int
    """Its index in ``packed``."""
    row: int
    number: int
    """Its clip number."""


class _Arrivals:
    """Results of workers that are not used up yet, by read.

    Replacements in an epoch may come after the first reads of the next; there are never more of them than the workers
    were given ahead.
    """

    def __init__(self, chunks: Iterator[Chunk[FileRead]]) -> None:
        self._chunks = chunks
        self._waiting: dict[FileRead, list[_Arrived] | Failure] = {}

    def wait_for_any(self) -> None:
        """Wait for the next results."""
        chunk = next(self._chunks)
        for read, outcome in chunk:
            self._waiting[read] = outcome if isinstance(outcome, Failure) else [_arrived(chunk, i) for i in outcome]

    def wait_for(self, read: FileRead) -> list[_Arrived] | Failure:
        while read not in self._waiting:
            self.wait_for_any()
        return self._waiting[read]

    def forget(self, read: FileRead) -> None:
        del self._waiting[read]

    def forget_epoch(self, number: int) -> None:
        """Remove the reads of an epoch that were done ahead and not needed, and those that failed."""
        for read in [waiting for waiting in self._waiting if waiting.epoch <= number]:
            del self._waiting[read]


def _arrived(chunk: Chunk[FileRead], i: int) -> _Arrived:
    assert chunk.packed is not None, "a clip was counted but not packed"
    _, row, number, _, _ = chunk.about[i]
    return _Arrived(chunk.packed, i, row, number)
