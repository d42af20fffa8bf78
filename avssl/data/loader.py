"""An endless stream of batches for training: exact, resumable, and without bad files.

An epoch reads every row once and yields ``steps_per_epoch`` batches of exactly B clips on each rank. A read makes
``clips_per_read`` clips, which go to as many consecutive batches (:mod:`avssl.data.read_schedule`). Rank r of W takes
every W-th id of the epoch's order, from the r-th on, so the ranks' batches of a step together are the batch of one
process with batch size W * B. The remainder of the division is left out; each epoch has another order.

A batch depends on the seed, the manifest's ids and which files fail; not on the number of workers, how far they read
ahead, or when a run was stopped and resumed.

With workers, batches are made in a thread of their own (:mod:`avssl.data.assembly`) and copied to the device from there
(:mod:`avssl.data.transfer`); the thread that trains takes them when they are ready. The loader's position and ledger
are those of the batches that were taken. Between epochs ranks share their bad rows, so no batch of an epoch is made
before the one before it has ended. ::

    workers  read, decode, pack  ->  slots of shared memory
    thread   gather a batch, start its copy to the device
    training next(batches)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from avssl.core import distributed, draws
from avssl.core.ahead import Ahead
from avssl.core.batch import Batch, Clip
from avssl.core.children import StartMethod
from avssl.core.errors import InputError
from avssl.core.parallel import Interrupt
from avssl.data.assembly import Assembled, Assembly
from avssl.data.dataset import ClipDataset
from avssl.data.ledger import Ledger
from avssl.data.read_schedule import FileRead, ReadSchedule
from avssl.data.transfer import transfer_to
from avssl.data.workers import WorkerPool

_HELD_AHEAD = 2
"""Chunks that are being gathered, or are not used up, besides those of a read of several clips."""


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
        num_workers: Reading processes; 0 reads in the main process, when a batch is needed.
        max_bad_fraction: Largest fraction of all rows that may fail.
        prefetch_factor: Batches each worker reads ahead.
        device: Device that batches are copied to; on a GPU, copies overlap its work on earlier batches.
        start_method: How workers start; see :class:`~avssl.data.workers.WorkerPool`.

    Raises:
        ValueError: If the manifest has fewer rows than one batch over all ranks.

    Example:
        >>> dataset = ClipDataset(avssl.read_manifest("corpus/manifest.csv"), ClipSampling())
        >>> loader = TrainLoader(dataset, batch_size=4)
        >>> batch = next(iter(loader))
        >>> state = loader.state_dict()  # after this batch
        >>> len(batch), len(loader.ledger)
        (4, 0)
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
        device: torch.device | None = None,
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
        self._transfer = transfer_to(device or torch.device("cpu"))
        self._pool = WorkerPool(
            dataset,
            partial(_read_clips, num_clips=clips_per_read),
            clips_per_list=max(1, batch_size // clips_per_read) * clips_per_read,
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

    @property
    def num_spilled(self) -> int:
        """Lists of clips that did not fit into the memory shared with the workers; they cost more time."""
        return self._pool.num_spilled

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches from the cursor on, without end. One iteration at a time."""
        known, interrupt = Ledger(len(self.dataset), self.ledger.max_bad_fraction), Interrupt()
        known.load_state_dict(self.ledger.state_dict())
        schedule = ReadSchedule(
            self._order,
            self.steps_per_epoch * self.batch_size,
            self.batch_size,
            self.clips_per_read,
            known.__contains__,
        )
        schedule.start(self._epoch, self._position, (self.steps_per_epoch - self._batches) * self.batch_size)
        chunks = self._pool.chunks(schedule, num_held=self.clips_per_read + _HELD_AHEAD, interrupt=interrupt)
        assembly = Assembly(
            self.dataset,
            schedule,
            chunks,
            known,
            batch_size=self.batch_size,
            clips_per_read=self.clips_per_read,
            transfer=self._transfer,
        )
        with closing(chunks):
            if self._pool.num_workers:
                assembly.begin()  # here, because processes end with the thread that starts them
            while True:
                yield from self._rest_of_epoch(assembly, interrupt)
                self.share_bad_files()
                assembly.finish(self._epoch, self.ledger)
                self._epoch, self._batches, self._position = self._epoch + 1, 0, 0

    def _rest_of_epoch(self, assembly: Assembly, interrupt: Interrupt) -> Iterator[Batch]:
        """Yield the epoch's batches from the cursor on, which moves with them."""
        made = assembly.batches(self._epoch, self._position, self.steps_per_epoch - self._batches)
        if self._pool.num_workers == 0:
            yield from filter(None, map(self._taken, made))
            return
        ahead = Ahead(made, interrupt=interrupt.set)
        try:
            yield from filter(None, map(self._taken, ahead))
        finally:
            ahead.close()

    def _taken(self, made: Assembled) -> Batch | None:
        """Note what goes with a batch, and return the batch, or None if an error follows."""
        self.ledger.add(made.failures)
        if made.batch is None:
            return None
        self._batches, self._position = self._batches + 1, made.position
        return made.batch()

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last batch that was yielded, and the bad rows found by then.

        The bad rows that all ranks know are in the state of rank 0 only; elsewhere "shared_ledger" is None.
        """
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
            # What all ranks know is saved once, not a hundred times: it may be long.
            "shared_ledger": self.ledger.state_dict(0, self._num_shared) if self._rank == 0 else None,
            "ledger": self.ledger.state_dict(self._num_shared),
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
        shared = (state.get("shared_ledger") or {"failures": []})["failures"]
        self.ledger.load_state_dict({"failures": shared + state["ledger"]["failures"]})
        self._num_shared = len(shared)

    def share_bad_files(self) -> None:
        """Merge the ledgers of all ranks. Every rank must call it; also done between epochs.

        Raises:
            TooManyBadFiles: On every rank, if too many rows failed on all ranks together.
        """
        if self._world_size == 1:
            return
        found: list[Any] = [None] * self._world_size
        dist.all_gather_object(found, list(self.ledger)[self._num_shared :], group=distributed.host_group())
        self.ledger.forget_from(self._num_shared)  # they come again, in the order that all ranks have
        self.ledger.add(failure for of_rank in found for failure in of_rank)
        self._num_shared = len(self.ledger)

    def _order(self, epoch: int) -> Tensor:
        order = draws.epoch_order(self.dataset.seed, epoch, self.dataset.id_keys)
        return order[self._rank :: self._world_size]


def _read_clips(dataset: ClipDataset, read: FileRead, num_clips: int) -> list[Clip]:
    return dataset.read_clips(read.row, read.epoch, range(read.first_clip, read.first_clip + num_clips))
