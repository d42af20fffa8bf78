"""Batches for evaluation: every row once, in order, at fixed windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from torch import Tensor

from avssl.core.batch import Batch, Clip
from avssl.core.errors import InputError
from avssl.data.collate import collate
from avssl.data.dataset import ClipDataset
from avssl.data.ledger import Failure, Ledger
from avssl.data.workers import StartMethod, WorkerPool, lists_of

Window = tuple[int, float, float]
"""(row, start of the picture, start of the sound), in seconds."""


class EvenWindows(NamedTuple):
    """Evenly spaced windows of a row."""

    row: int
    num_windows: int


class FixedWindows(NamedTuple):
    """Given windows of one row, read in one go."""

    row: int
    video_starts: tuple[float, ...]
    audio_starts: tuple[float, ...]
    first_number: int


class EvalLoader:
    """Clips of rows in their order, once. The same clips whatever the batch size or number of workers.

    Args:
        dataset: What to read.
        batch_size: Most clips a batch. The windows of a row stay in one batch, which may thus be larger.
        rows: Which rows; all by default.
        clips_per_row: Evenly spaced windows of each row.
        windows: Given windows instead, such as those around known events; excludes ``rows`` and
            ``clips_per_row``. Those of one row that follow each other in a batch are decoded in one go, and
            fail together.
        num_workers: Reading processes; 0 reads in this one.
        pin_memory: Batches in page-locked memory.
        start_method: How workers start.

    Raises:
        ValueError: If ``windows`` is given with ``rows`` or ``clips_per_row``, or a number is below 1.

    Example:
        >>> loader = EvalLoader(dataset, batch_size=64, clips_per_row=10)
        >>> for batch, rows, failures in loader:
        ...     features[rows] = ...
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batch_size: int,
        *,
        rows: Sequence[int] | np.ndarray | None = None,
        clips_per_row: int = 1,
        windows: Sequence[Window] | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        start_method: StartMethod = "fork",
    ) -> None:
        if batch_size < 1 or clips_per_row < 1:
            raise InputError(f"batch_size ({batch_size}) and clips_per_row ({clips_per_row}) must be at least 1.")
        if windows is not None and (rows is not None or clips_per_row != 1):
            raise InputError("give either windows, or rows and clips_per_row.")
        self.dataset = dataset
        self.ledger = Ledger(len(dataset))
        """Rows that failed, after or during an iteration."""
        self._pin_memory = pin_memory
        self._lists: list[list[EvenWindows | FixedWindows]]
        if windows is None:
            chosen = range(len(dataset)) if rows is None else rows
            requests = [EvenWindows(int(row), clips_per_row) for row in chosen]
            self._lists = list(lists_of(requests, max(1, batch_size // clips_per_row)))
        else:
            numbered = list(_numbered(windows))
            self._lists = [_joined(part) for part in lists_of(numbered, batch_size)]
        self._pool = WorkerPool(dataset, _read_windows, num_workers=num_workers, start_method=start_method)

    def __len__(self) -> int:
        """Batches, those included in which every file fails."""
        return len(self._lists)

    def __iter__(self) -> Iterator[tuple[Batch, Tensor, list[Failure]]]:
        """Raw batches, the (b,) row of each clip, and the requests that failed since the last batch.

        A row whose file fails has no clip; ``ledger`` holds all that failed, also after the last batch.
        """
        for clips, failures in self.clips():
            batch = self.batch(clips)
            yield batch, batch.index.row, failures

    def clips(self) -> Iterator[tuple[list[Clip], list[Failure]]]:
        """What the batches are made of, with the times of each clip; :meth:`batch` makes them."""
        failures: list[Failure] = []
        for chunk in self._pool.chunks(self._lists):
            clips: list[Clip] = []
            for _, outcome in chunk:
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                else:
                    clips += outcome
            self.ledger.add(failures)
            if clips:
                yield clips, failures
                failures = []

    def batch(self, clips: Sequence[Clip]) -> Batch:
        """The raw batch of some clips."""
        index = self.dataset.index([c.row for c in clips], 0, [c.clip_number for c in clips])
        return collate(clips, index, pin_memory=self._pin_memory)


def _numbered(windows: Sequence[Window]) -> Iterator[FixedWindows]:
    """Windows with their number among those of the same row."""
    seen: Counter[int] = Counter()
    for row, video_start, audio_start in windows:
        yield FixedWindows(int(row), (float(video_start),), (float(audio_start),), seen[int(row)])
        seen[int(row)] += 1


def _joined(windows: Iterable[FixedWindows]) -> list[EvenWindows | FixedWindows]:
    """The same windows, those of one row that follow each other as one request."""
    joined: list[EvenWindows | FixedWindows] = []
    for row, group in groupby(windows, key=lambda window: window.row):
        _, video_starts, audio_starts, numbers = zip(*group, strict=True)
        joined.append(FixedWindows(row, sum(video_starts, ()), sum(audio_starts, ()), numbers[0]))
    return joined


def _read_windows(dataset: ClipDataset, request: EvenWindows | FixedWindows) -> list[Clip]:
    if isinstance(request, EvenWindows):
        return dataset.read_even(request.row, request.num_windows)
    return dataset.read_windows(*request)
