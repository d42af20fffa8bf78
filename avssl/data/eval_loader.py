"""Batches for evaluation: every row once, in order, at fixed windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, groupby, islice
from typing import NamedTuple

import numpy as np
from torch import Tensor

from avssl.core.ahead import Ahead
from avssl.core.batch import Batch, Clip
from avssl.core.children import StartMethod
from avssl.core.errors import InputError
from avssl.core.parallel import Interrupt
from avssl.data.collate import collate, raw_batch
from avssl.data.dataset import ClipDataset
from avssl.data.ledger import Failure, Ledger
from avssl.data.packing import Empty, PackedClips, empty, empty_pinned, gather
from avssl.data.transfer import Ready, Transfer
from avssl.data.workers import Chunk, WorkerPool, lists_of

Window = tuple[int, float, float]
"""(row, video start in seconds, audio start in seconds)."""
_HELD_AHEAD = 5
"""Batches whose clips are in use at a time: two of the caller, one that waits, one that is made, one that was read."""


class EvenWindows(NamedTuple):
    """Evenly spaced windows of a row."""

    row: int
    num_windows: int


class FixedWindows(NamedTuple):
    """Given windows of one row, read together."""

    row: int
    video_starts: tuple[float, ...]
    audio_starts: tuple[float, ...]
    first_number: int


class Fed(NamedTuple):
    """A batch on its device."""

    clips: list[Clip]
    """Its clips, in order, with their times."""
    batch: Batch
    """The raw batch."""
    failures: list[Failure]
    """Requests that failed since the last batch."""


class EvalLoader:
    """Clips of rows in order, once. They do not depend on the batch size or the number of workers.

    Args:
        dataset: The clips.
        batch_size: Largest number of clips per batch. The windows of a row stay in one batch, which may thus be larger.
        rows: Rows to read; default: all.
        clips_per_row: Number of evenly spaced windows of each row.
        windows: Given windows instead, such as those around known events; excludes ``rows`` and ``clips_per_row``.
            Consecutive windows of one row in a batch are decoded together, and fail together.
        together: With ``windows``, largest number of consecutive windows of a row that are decoded together, counted
            from its first one whatever is in the batch, and stay in one batch; default: those that a batch holds.
        num_workers: Reading processes; 0 reads in the main process.
        pin_memory: Put batches in page-locked memory.
        start_method: Start method of the workers.

    Raises:
        ValueError: If ``windows`` is given with ``rows`` or ``clips_per_row``, or a number is below 1.

    Example:
        >>> dataset = ClipDataset(avssl.read_manifest("corpus/manifest.csv"), ClipSampling(audio_seconds=1.0))
        >>> loader = EvalLoader(dataset, batch_size=4, rows=[0, 1, 2], clips_per_row=2)
        >>> for batch, rows, failures in loader:
        ...     print(len(batch), rows.tolist(), failures)
        4 [0, 0, 1, 1] []
        2 [2, 2] []
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batch_size: int,
        *,
        rows: Sequence[int] | np.ndarray | None = None,
        clips_per_row: int = 1,
        windows: Sequence[Window] | None = None,
        together: int | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        start_method: StartMethod = "fork",
    ) -> None:
        if batch_size < 1 or clips_per_row < 1:
            raise InputError(f"batch_size ({batch_size}) and clips_per_row ({clips_per_row}) must be at least 1.")
        if windows is not None and (rows is not None or clips_per_row != 1):
            raise InputError("give either windows, or rows and clips_per_row.")
        if together is not None and (together < 1 or windows is None):
            raise InputError(f"together ({together}) must be at least 1, and goes with windows.")
        self.dataset = dataset
        self.ledger = Ledger(len(dataset), max_bad_fraction=1.0)
        """Rows that failed, after or during an iteration."""
        self._pin_memory = pin_memory
        self._lists: list[list[EvenWindows | FixedWindows]]
        if windows is None:
            chosen = range(len(dataset)) if rows is None else rows
            requests = [EvenWindows(int(row), clips_per_row) for row in chosen]
            self._lists = list(lists_of(requests, max(1, batch_size // clips_per_row)))
        elif together is not None:
            parts = _parts_of_rows(list(_numbered(windows)), together)
            self._lists = list(lists_of(parts, max(1, batch_size // together)))
        else:
            numbered = list(_numbered(windows))
            self._lists = [_joined(part) for part in lists_of(numbered, batch_size)]
        self._pool = WorkerPool(
            dataset,
            _read_windows,
            clips_per_list=max(batch_size, clips_per_row),
            num_workers=num_workers,
            start_method=start_method,
        )

    def __len__(self) -> int:
        """Return the number of batches, including those in which every file fails."""
        return len(self._lists)

    def __iter__(self) -> Iterator[tuple[Batch, Tensor, list[Failure]]]:
        """Yield raw batches, the (b,) row of each clip, and the requests that failed since the last batch.

        A row whose file fails has no clip; ``ledger`` holds all failures, also those after the last batch.
        """
        for chunk, failures in self._chunks():
            _, rows, numbers, _, _ = zip(*chunk.about, strict=True)
            packed = _gathered(chunk, empty_pinned if self._pin_memory else empty)
            batch = raw_batch(packed, self.dataset.index(rows, 0, numbers))
            yield batch, batch.index.row, failures

    def fed(self, transfer: Transfer) -> Generator[Fed]:
        """Yield each batch on the device of a model, with its clips and the requests that failed since the last batch.

        With workers, batches are made and start on their way in a thread of their own, while the model computes.

        Args:
            transfer: From :func:`~avssl.data.transfer.transfer_to`.

        Example:
            >>> from avssl.data import ClipSampling
            >>> from avssl.data.transfer import transfer_to
            >>> dataset = ClipDataset(avssl.read_manifest("corpus/manifest.csv"), ClipSampling())
            >>> loader = EvalLoader(dataset, batch_size=4)
            >>> with closing(loader.fed(transfer_to(torch.device("cpu")))) as batches:
            ...     [clip.row for clips, batch, failures in batches for clip in clips]
            [0, 1, 2, 3, 4, 5, 6, 7]
        """
        interrupt = Interrupt()
        with closing(self._chunks(_HELD_AHEAD, interrupt)) as chunks:
            first = list(islice(chunks, 1))  # here, because processes end with the thread that starts them
            made = (self._start(chunk, failures, transfer) for chunk, failures in chain(first, chunks))
            if self._pool.num_workers == 0:
                yield from (Fed(clips, ready(), failures) for clips, ready, failures in made)
                return
            ahead = Ahead(made, interrupt=interrupt.set)
            try:
                yield from (Fed(clips, ready(), failures) for clips, ready, failures in ahead)
            finally:
                ahead.close()

    def _start(
        self, chunk: Chunk[EvenWindows | FixedWindows], failures: list[Failure], transfer: Transfer
    ) -> tuple[list[Clip], Ready, list[Failure]]:
        """Gather a batch and start its copy to the device."""
        clips = [chunk.clip(i) for i in range(len(chunk.about))]
        index = self.dataset.index([clip.row for clip in clips], 0, [clip.clip_number for clip in clips])

        def make() -> Batch:
            return raw_batch(_gathered(chunk, transfer.empty, keep_int16=transfer.keeps_int16), index)

        return clips, transfer.start(make), failures

    def clips(self) -> Iterator[tuple[list[Clip], list[Failure]]]:
        """Yield the clips of each batch, with their times; :meth:`batch` collates them."""
        for chunk, failures in self._chunks():
            yield [chunk.clip(i) for i in range(len(chunk.about))], failures

    def _chunks(
        self, num_held: int = 3, interrupt: Interrupt | None = None
    ) -> Generator[tuple[Chunk[EvenWindows | FixedWindows], list[Failure]]]:
        """Yield what was read for each batch, and the requests that failed since the last."""
        failures: list[Failure] = []
        for chunk in self._pool.chunks(self._lists, num_held=num_held, interrupt=interrupt):
            failures += [outcome for outcome in chunk.outcomes if isinstance(outcome, Failure)]
            self.ledger.add(failures)
            if chunk.packed is not None:
                yield chunk, failures
                failures = []

    def batch(self, clips: Sequence[Clip]) -> Batch:
        """Collate clips to a raw batch."""
        index = self.dataset.index([c.row for c in clips], 0, [c.clip_number for c in clips])
        return collate(clips, index, pin_memory=self._pin_memory)


def _gathered(chunk: Chunk[EvenWindows | FixedWindows], empty: Empty, *, keep_int16: bool = False) -> PackedClips:
    """Copy all clips of a chunk."""
    assert chunk.packed is not None, "chunks without clips are left out"
    return gather([(chunk.packed, i) for i in range(len(chunk.about))], empty, keep_int16=keep_int16)


def _numbered(windows: Sequence[Window]) -> Iterator[FixedWindows]:
    """Return the windows, numbered within their row."""
    seen: Counter[int] = Counter()
    for row, video_start, audio_start in windows:
        yield FixedWindows(int(row), (float(video_start),), (float(audio_start),), seen[int(row)])
        seen[int(row)] += 1


def _parts_of_rows(windows: Sequence[FixedWindows], size: int) -> list[EvenWindows | FixedWindows]:
    """Return requests of up to ``size`` consecutive windows of one row."""
    rows = [list(group) for _, group in groupby(windows, key=lambda window: window.row)]
    return [request for row in rows for part in lists_of(row, size) for request in _joined(part)]


def _joined(windows: Iterable[FixedWindows]) -> list[EvenWindows | FixedWindows]:
    """Join consecutive windows of one row to one request."""
    joined: list[EvenWindows | FixedWindows] = []
    for row, group in groupby(windows, key=lambda window: window.row):
        _, video_starts, audio_starts, numbers = zip(*group, strict=True)
        joined.append(FixedWindows(row, sum(video_starts, ()), sum(audio_starts, ()), numbers[0]))
    return joined


def _read_windows(dataset: ClipDataset, request: EvenWindows | FixedWindows) -> list[Clip]:
    if isinstance(request, EvenWindows):
        return dataset.read_even(request.row, request.num_windows)
    return dataset.read_windows(*request)
