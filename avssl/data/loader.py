"""An endless stream of batches for training: exact, resumable, and without bad files.

One pass visits every row once and hands out ``steps_per_epoch`` batches of exactly B clips on each rank; a visit
gives ``clips_per_visit`` clips, which fall into as many consecutive batches, of different files but where a bad one is
replaced (:mod:`avssl.data.plan`). Rank r of W takes
every W-th id of the pass's order, from the r-th on, so step by step the ranks' batches together
are the batch that one process with W * B would take. The remainder of the division waits for
another pass, in which the order is another.

What decides a batch is the seed, the manifest's ids and which files fail; never the number of
workers, how far they read ahead, or when a run was stopped and resumed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from avssl.core import distributed, draws
from avssl.core.batch import Batch, Clip
from avssl.core.errors import InputError
from avssl.data.collate import collate
from avssl.data.dataset import ClipDataset
from avssl.data.ledger import Failure, Ledger
from avssl.data.plan import Plan, Visit
from avssl.data.workers import Chunk, StartMethod, WorkerPool


class TrainLoader:
    """Batches of training clips, pass after pass.

    A row that cannot be read is written into :attr:`ledger` and never tried again; the next id of
    the rank's order takes its place. A rank that comes to the end of its order starts over in the
    same order, with other windows (the next clip number). Ranks tell each other of bad rows between
    epochs. Each rank stops at once when it alone has found too many, whereupon torchrun ends the
    others; when they have only together, all of them stop at the end of the pass.

    Args:
        dataset: What to read; its seed decides the order.
        batch_size: Clips a batch, B, on each rank.
        clips_per_visit: Clips made of a file each time it is opened. Decoding is shared by them, so that more of
            them cost little; they come in consecutive batches, and as many batches are held in memory.
        num_workers: Reading processes; 0 reads in this one.
        max_bad_fraction: Largest share of all rows that may fail.
        prefetch_factor: Batches each worker reads ahead.
        pin_memory: Batches in page-locked memory, for copies to a GPU that do not block.
        start_method: How workers start; see :class:`~avssl.data.workers.WorkerPool`.

    Raises:
        ValueError: If the manifest holds fewer rows than one batch over all ranks.

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
        clips_per_visit: int = 1,
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
        if clips_per_visit < 1:
            raise InputError(f"clips_per_visit ({clips_per_visit}) must be at least 1.")
        self.clips_per_visit = clips_per_visit
        self.ledger = Ledger(len(dataset), max_bad_fraction)
        """Rows that failed, on this rank and, as of the last pass, on the others."""
        self._pin_memory = pin_memory
        self._pool = WorkerPool(
            dataset,
            partial(_read_visit, num_clips=clips_per_visit),
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            start_method=start_method,
        )
        # The cursor: what was handed out, not what was read ahead.
        self._epoch = 0
        self._batches = 0
        self._place = 0
        self._num_shared = 0  # failures in the ledger that every rank knows

    @property
    def steps_per_epoch(self) -> int:
        """Batches in a pass, the same on all ranks."""
        return len(self.dataset) * self.clips_per_visit // (self.batch_size * self._world_size)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the cursor on, without end. One iteration at a time."""
        plan = Plan(
            self._order,
            self.steps_per_epoch * self.batch_size,
            self.batch_size,
            self.clips_per_visit,
            self.ledger.__contains__,
        )
        plan.start(self._epoch, self._place, (self.steps_per_epoch - self._batches) * self.batch_size)
        arrivals = _Arrivals(self._pool.chunks(plan))
        while True:
            if self._batches == self.steps_per_epoch:
                self._begin_epoch(plan, arrivals)
            yield self._next_batch(plan, arrivals)

    def state_dict(self) -> dict[str, Any]:
        """Plain values: the position after the last batch that was handed out, and the bad rows found by then."""
        return {
            "seed": self.dataset.seed,
            "manifest": self.dataset.manifest.hash(),
            "global_batch_size": self.batch_size * self._world_size,
            "clips_per_visit": self.clips_per_visit,
            "prepared": self.dataset.is_prepared,
            "world_size": self._world_size,
            "pass": self._epoch,
            "batches": self._batches,
            "place": self._place,
            "ledger": self.ledger.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a position; the next iteration starts there.

        Another number of ranks with the same global batch is possible, and then not exact: where
        files failed, some clips come twice in this pass or not at all.

        Raises:
            ValueError: If the seed, the manifest's ids, the global batch size or the clips a visit are others, or one
                is of files and the other of a prepared copy.
        """
        mine = self.state_dict()
        for name in ("seed", "manifest", "global_batch_size", "clips_per_visit", "prepared"):
            if state[name] != mine[name]:
                raise InputError(
                    f"cannot continue with {name} {mine[name]}: the checkpoint was made with {state[name]}. "
                    "Use the same data, seed and (ranks x batch_size), or start a new run."
                )
        self._epoch, self._batches, self._place = state["pass"], state["batches"], state["place"]
        if state["world_size"] != self._world_size:
            warnings.warn(f"continuing on {self._world_size} ranks, saved on {state['world_size']}.", stacklevel=2)
            self._place = self._batches * self.batch_size
        self.ledger.load_state_dict(state["ledger"])
        self._num_shared = 0

    def share_bad_files(self) -> None:
        """Makes the ledger that of all ranks. Every rank must call it; done between epochs anyway.

        Raises:
            TooManyBadFiles: On every rank, if too many rows failed on all ranks together.
        """
        if self._world_size == 1:
            return
        found: list[Any] = [None] * self._world_size
        dist.all_gather_object(found, list(self.ledger)[self._num_shared :])
        self.ledger.add(failure for of_rank in found for failure in of_rank)
        self._num_shared = len(self.ledger)

    def write_dropped_files(self, path: Path | str) -> None:
        """Writes the ledger as ``dropped_files.csv``, from rank 0."""
        if distributed.is_main():
            self.ledger.write(path)

    def worker_report(self) -> str:
        """What the worker processes that died were reading; empty when none did."""
        return self._pool.report()

    def _order(self, epoch: int) -> Tensor:
        order = draws.epoch_order(self.dataset.seed, epoch, self.dataset.id_keys)
        return order[self._rank :: self._world_size]

    def _begin_epoch(self, plan: Plan, arrivals: _Arrivals) -> None:
        self.share_bad_files()
        plan.finish(self._epoch)
        arrivals.forget_epoch(self._epoch)
        self._epoch, self._batches, self._place = self._epoch + 1, 0, 0

    def _next_batch(self, plan: Plan, arrivals: _Arrivals) -> Batch:
        """The next B good clips in the order of places, and the cursor moved behind them."""
        clips: list[Clip] = []
        place, num_bad = self._place, 0
        while len(clips) < self.batch_size:
            visit, number = plan.candidate(self._epoch, place)
            place += 1
            # A row that failed once is out from there on, even if another window of it was read
            # ahead without fault: otherwise the stream would depend on how far workers read ahead.
            outcome = None if visit.row in self.ledger else arrivals.wait_for(visit)
            if isinstance(outcome, Failure):
                self.ledger.add([outcome])
            if isinstance(outcome, list):
                clips.append(outcome[number])
                num_bad = 0
                if number == self.clips_per_visit - 1:
                    arrivals.forget(visit)
            else:
                plan.drop(visit)
                num_bad += 1
                plan.refuse_endless(self._epoch, num_bad)
        self._batches, self._place = self._batches + 1, place
        index = self.dataset.index([c.row for c in clips], self._epoch, [c.clip_number for c in clips])
        return collate(clips, index, pin_memory=self._pin_memory)


class _Arrivals:
    """What workers sent and is not used up yet, by visit. Replacements in a pass may come after the first visits of
    the next; there are never more of them than the workers were given ahead."""

    def __init__(self, chunks: Iterator[Chunk[Visit]]) -> None:
        self._chunks = chunks
        self._waiting: dict[Visit, list[Clip] | Failure] = {}

    def wait_for(self, visit: Visit) -> list[Clip] | Failure:
        while visit not in self._waiting:
            self._waiting.update(next(self._chunks))
        return self._waiting[visit]

    def forget(self, visit: Visit) -> None:
        del self._waiting[visit]

    def forget_epoch(self, number: int) -> None:
        """Visits of a pass that were read ahead and not needed, and those that failed."""
        for visit in [waiting for waiting in self._waiting if waiting.epoch <= number]:
            del self._waiting[visit]


def _read_visit(dataset: ClipDataset, visit: Visit, num_clips: int) -> list[Clip]:
    return dataset.read_visit(visit.row, visit.epoch, range(visit.first_clip, visit.first_clip + num_clips))
