"""An endless stream of batches for training: exact, resumable, and without bad files.

An epoch reads every row once and yields ``steps_per_epoch`` batches of exactly B clips on each rank. A read makes
``clips_per_read`` clips, which go to as many consecutive batches (:mod:`avssl.data.read_schedule`). Rank r of W takes
every W-th id of the epoch's order, from the r-th on, so the ranks' batches of a step together are the batch of one
process with batch size W * B. The remainder of the division is left out; each epoch has another order.

A batch depends on the seed, the manifest's ids and which files fail; not on the number of workers, how far they read
ahead, or when a run was stopped and resumed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch.distributed as dist
from torch import Tensor

from avssl.core import distributed, draws
from avssl.core.batch import Batch, Clip
from avssl.core.children import StartMethod
from avssl.core.errors import InputError
from avssl.data.collate import collate
from avssl.data.dataset import ClipDataset
from avssl.data.ledger import Failure, Ledger
from avssl.data.read_schedule import FileRead, ReadSchedule
from avssl.data.workers import Chunk, WorkerPool


class TrainLoader:
    """Batches of training clips, epoch after epoch.

    A row that cannot be read is written into :attr:`ledger` and never tried again; the next id of the rank's order
    replaces it. A rank that comes to the end of its order starts over in the same order, with other windows (the next
    clip number). Ranks share their bad rows between epochs. A rank that has found too many by itself stops at once, and
    torchrun ends the others; if they have only together, all of them stop at the end of the epoch.

    Args:
        dataset: The clips; its seed decides the order.
        batch_size: B, clips per batch on each rank.
        clips_per_read: Clips made of a file each time it is opened. They share its decoding, so that more of
            them cost little; they come in consecutive batches, and as many batches are held in memory.
        num_workers: Reading processes; 0 reads in the main process.
        max_bad_fraction: Largest fraction of all rows that may fail.
        prefetch_factor: Batches each worker reads ahead.
        pin_memory: Put batches in page-locked memory, for copies to a GPU that do not block.
        start_method: How workers start; see :class:`~avssl.data.workers.WorkerPool`.

    Raises:
        ValueError: If the manifest has fewer rows than one batch over all ranks.

    Example:
        >>> loader = TrainLoader(dataset, batch_size=64, num_workers=8)
        >>> batches = iter(loader)
        >>> batch = next(batches)
        >>> state = loader.state_dict()  # after this batch
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batch_size: int,
        *,
        clips_per_read: int = 1,
        num_workers: int = 0,
        max_bad_fraction: float = 0.1,
        prefetch_factor: int = 2,
        pin_memory: bool = False,
        start_method: StartMethod = "fork",
    ) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self._rank, self._world_size = distributed.rank(), distributed.world_size()
        if batch_size < 1 or len(dataset) < batch_size * self._world_size:
            raise InputError(
                f"batch_size ({batch_size}) on {self._world_size} ranks must be between 1 and the manifest's "
                f"{len(dataset)} rows in all. Make batches smaller, or cut long files into more rows."
            )
        if clips_per_read < 1:
            raise InputError(f"clips_per_read ({clips_per_read}) must be at least 1.")
        self.clips_per_read = clips_per_read
        self.ledger = Ledger(len(dataset), max_bad_fraction)
        """Rows that failed, on this rank and, up to the last epoch, on the others."""
        self._pin_memory = pin_memory
        self._pool = WorkerPool(
            dataset,
            partial(_read_clips, num_clips=clips_per_read),
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            start_method=start_method,
        )
        # The cursor counts what was yielded, not what was read ahead.
        self._epoch = 0
        self._batches = 0
        self._position = 0
        self._num_shared = 0  # failures in the ledger that every rank knows

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, the same on all ranks."""
        return len(self.dataset) * self.clips_per_read // (self.batch_size * self._world_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches from the cursor on, without end. One iteration at a time."""
        schedule = ReadSchedule(
            self._order,
            self.steps_per_epoch * self.batch_size,
            self.batch_size,
            self.clips_per_read,
            self.ledger.__contains__,
        )
        schedule.start(self._epoch, self._position, (self.steps_per_epoch - self._batches) * self.batch_size)
        arrivals = _Arrivals(self._pool.chunks(schedule))
        while True:
            if self._batches == self.steps_per_epoch:
                self._begin_epoch(schedule, arrivals)
            yield self._next_batch(schedule, arrivals)

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last batch that was yielded, and the bad rows found by then."""
        return {
            "seed": self.dataset.seed,
            "manifest": self.dataset.manifest.hash(),
            "global_batch_size": self.batch_size * self._world_size,
            "clips_per_read": self.clips_per_read,
            "prepared": self.dataset.is_prepared,
            "world_size": self._world_size,
            "epoch": self._epoch,
            "batches": self._batches,
            "position": self._position,
            "ledger": self.ledger.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position; the next iteration starts there.

        Another number of ranks with the same global batch is possible, but not exact: after failed
        files, some clips come twice in this epoch or not at all.

        Raises:
            ValueError: If the seed, the manifest's ids, the global batch size or ``clips_per_read`` differ, or one is
                of files and the other of a prepared copy.
        """
        mine = self.state_dict()
        for name in ("seed", "manifest", "global_batch_size", "clips_per_read", "prepared"):
            if state[name] != mine[name]:
                raise InputError(
                    f"cannot continue with {name} {mine[name]}: the checkpoint was made with {state[name]}. "
                    "Use the same data, seed and (ranks x batch_size), or start a new run."
                )
        self._epoch, self._batches, self._position = state["epoch"], state["batches"], state["position"]
        if state["world_size"] != self._world_size:
            warnings.warn(f"continuing on {self._world_size} ranks, saved on {state['world_size']}.", stacklevel=2)
            self._position = self._batches * self.batch_size
        self.ledger.load_state_dict(state["ledger"])
        self._num_shared = 0

    def share_bad_files(self) -> None:
        """Merge the ledgers of all ranks. Every rank must call it; also done between epochs.

        Raises:
            TooManyBadFiles: On every rank, if too many rows failed on all ranks together.
        """
        if self._world_size == 1:
            return
        found: list[Any] = [None] * self._world_size
        dist.all_gather_object(found, list(self.ledger)[self._num_shared :])
        self.ledger.add(failure for of_rank in found for failure in of_rank)
        self._num_shared = len(self.ledger)

    def _order(self, epoch: int) -> Tensor:
        order = draws.epoch_order(self.dataset.seed, epoch, self.dataset.id_keys)
        return order[self._rank :: self._world_size]

    def _begin_epoch(self, schedule: ReadSchedule, arrivals: _Arrivals) -> None:
        self.share_bad_files()
        schedule.finish(self._epoch)
        arrivals.forget_epoch(self._epoch)
        self._epoch, self._batches, self._position = self._epoch + 1, 0, 0

    def _next_batch(self, schedule: ReadSchedule, arrivals: _Arrivals) -> Batch:
        """Return the next B good clips by position, and move the cursor after them."""
        clips: list[Clip] = []
        position, num_bad = self._position, 0
        while len(clips) < self.batch_size:
            read, index = schedule.candidate(self._epoch, position)
            position += 1
            # A row that failed once is out from then on, even if another window of it was read
            # ahead without fault: otherwise the stream would depend on how far workers read ahead.
            outcome = None if read.row in self.ledger else arrivals.wait_for(read)
            if isinstance(outcome, Failure):
                self.ledger.add([outcome])
            if isinstance(outcome, list):
                clips.append(outcome[index])
                num_bad = 0
                if index == self.clips_per_read - 1:
                    arrivals.forget(read)
            else:
                schedule.drop(read)
                num_bad += 1
                schedule.check_not_exhausted(self._epoch, num_bad)
        self._batches, self._position = self._batches + 1, position
        batch_index = self.dataset.index([c.row for c in clips], self._epoch, [c.clip_number for c in clips])
        return collate(clips, batch_index, pin_memory=self._pin_memory)


class _Arrivals:
    """Results of workers that are not used up yet, by read.

    Replacements in an epoch may come after the first reads of the next; there are never more of them than the workers
    were given ahead.
    """

    def __init__(self, chunks: Iterator[Chunk[FileRead]]) -> None:
        self._chunks = chunks
        self._waiting: dict[FileRead, list[Clip] | Failure] = {}

    def wait_for(self, read: FileRead) -> list[Clip] | Failure:
        while read not in self._waiting:
            self._waiting.update(next(self._chunks))
        return self._waiting[read]

    def forget(self, read: FileRead) -> None:
        del self._waiting[read]

    def forget_epoch(self, number: int) -> None:
        """Remove the reads of an epoch that were done ahead and not needed, and those that failed."""
        for read in [waiting for waiting in self._waiting if waiting.epoch <= number]:
            del self._waiting[read]


def _read_clips(dataset: ClipDataset, read: FileRead, num_clips: int) -> list[Clip]:
    return dataset.read_clips(read.row, read.epoch, range(read.first_clip, read.first_clip + num_clips))
