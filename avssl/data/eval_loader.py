"""Batches for evaluation: every row once, in order, at fixed windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from avssl.batch import Batch, Clip
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


class FixedWindow(NamedTuple):
    """One given window of a row."""

    row: int
    video_start: float
    audio_start: float
    clip_number: int


class EvalLoader:
    """Clips of rows in their order, once. The same clips whatever the batch size or number of workers.

    Args:
        dataset: What to read.
        batch_size: Most clips a batch. The windows of a row stay in one batch, which may thus be larger.
        rows: Which rows; all by default.
        clips_per_row: Evenly spaced windows of each row.
        windows: Given windows instead, such as those around known events; excludes ``rows`` and
            ``clips_per_row``.
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
            raise ValueError(f"batch_size ({batch_size}) and clips_per_row ({clips_per_row}) must be at least 1.")
        if windows is not None and (rows is not None or clips_per_row != 1):
            raise ValueError("give either windows, or rows and clips_per_row.")
        self.dataset = dataset
        self.ledger = Ledger(len(dataset))
        """Rows that failed, after or during an iteration."""
        self._pin_memory = pin_memory
        self._requests: list[EvenWindows | FixedWindow]
        if windows is None:
            chosen = range(len(dataset)) if rows is None else rows
            self._requests = [EvenWindows(int(row), clips_per_row) for row in chosen]
        else:
            self._requests = list(_numbered(windows))
        self._list_size = max(1, batch_size // clips_per_row)
        self._pool = WorkerPool(dataset, _read_windows, num_workers=num_workers, start_method=start_method)

    def __len__(self) -> int:
        """Batches, those included in which every file fails."""
        return -(-len(self._requests) // self._list_size)

    def __iter__(self) -> Iterator[tuple[Batch, Tensor, list[Failure]]]:
        """Raw batches, the (b,) row of each clip, and the requests that failed since the last batch.

        A row whose file fails has no clip; ``ledger`` holds all that failed, also after the last batch.
        """
        failures: list[Failure] = []
        for chunk in self._pool.chunks(lists_of(self._requests, self._list_size)):
            clips: list[Clip] = []
            for _, outcome in chunk:
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                else:
                    clips += outcome
            self.ledger.add(failures)
            if clips:
                index = self.dataset.index([c.row for c in clips], 0, [c.clip_number for c in clips])
                yield collate(clips, index, pin_memory=self._pin_memory), index.row, failures
                failures = []


def _numbered(windows: Sequence[Window]) -> Iterator[FixedWindow]:
    """Windows with their number among those of the same row."""
    seen: Counter[int] = Counter()
    for row, video_start, audio_start in windows:
        yield FixedWindow(int(row), float(video_start), float(audio_start), seen[int(row)])
        seen[int(row)] += 1


def _read_windows(dataset: ClipDataset, request: EvenWindows | FixedWindow) -> list[Clip]:
    if isinstance(request, EvenWindows):
        return dataset.read_even(request.row, request.num_windows)
    return [dataset.read_window(request.row, request.video_start, request.audio_start, request.clip_number)]
