"""Read clips in worker processes, in the order of the requests.

Workers get short lists of requests and send back one chunk for each: the clips packed into a few
tensors, and the failures. What a worker is reading stands in shared memory, so that when one is
killed (a decoder that crashes, too little memory) the file is known.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from avssl.core.batch import Clip
from avssl.core.errors import InputError, RunError
from avssl.data.collate import PackedClips, pack
from avssl.data.dataset import ClipDataset
from avssl.data.ledger import Failure
from avssl.media import MediaError

StartMethod = Literal["fork", "forkserver", "spawn"]

_IDLE = -1


class Request(Protocol):
    """A request for clips: plain values with at least the row."""

    @property
    def row(self) -> int: ...


_Request = TypeVar("_Request", bound=Request)

Read = Callable[[ClipDataset, _Request], list[Clip]]
"""Reads the clips of one request; a module-level function, so that it pickles by name."""


@dataclass(frozen=True)
class Chunk(Generic[_Request]):
    """The results of a list of requests, in their order."""

    requests: list[_Request]
    outcomes: list[int | Failure]
    """For each request, its number of clips, or the failure."""
    about: list[tuple[str, int, int, float, float]]
    """For each clip: id, row, clip number, video start and audio start."""
    packed: PackedClips | None
    """The clips' tensors, or None if all requests failed."""

    def __iter__(self) -> Iterator[tuple[_Request, list[Clip] | Failure]]:
        """Yield each request with its clips, which are views of ``packed``, or with its failure."""
        first = 0
        for request, outcome in zip(self.requests, self.outcomes, strict=True):
            if isinstance(outcome, Failure):
                yield request, outcome
            else:
                yield request, [self._clip(i) for i in range(first, first + outcome)]
                first += outcome

    def _clip(self, i: int) -> Clip:
        assert self.packed is not None, "a clip was counted but not packed"
        clip_id, row, number, video_start, audio_start = self.about[i]
        video, chroma = self.packed.clip_planes(i)
        return Clip(clip_id, row, number, video, video_start, self.packed.audio[i], audio_start, chroma)


class WorkerPool(Generic[_Request]):
    """Worker processes over one dataset.

    Args:
        dataset: The clips.
        read: Reads the clips of a request.
        num_workers: Processes; 0 reads in the main process.
        prefetch_factor: Lists of requests each worker is given ahead, >= 1.
        start_method: "fork" starts at once and shares the manifest's memory; "forkserver" and
            "spawn" are for programs whose own threads forbid it, and need a guarded main module.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        read: Read[_Request],
        *,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        start_method: StartMethod = "fork",
    ) -> None:
        if num_workers < 0:
            raise InputError(f"num_workers ({num_workers}) must not be negative.")
        if prefetch_factor < 1:
            raise InputError(f"prefetch_factor ({prefetch_factor}) must be at least 1.")
        self._dataset, self._num_workers = dataset, num_workers
        self._prefetch_factor, self._start_method = prefetch_factor, start_method
        # (worker, [process id, row being read])
        self._reading = torch.full((num_workers, 2), _IDLE, dtype=torch.int64).share_memory_()
        self._reader = _ChunkReader(dataset, read, self._reading)
        self._report = ""

    def chunks(self, requests: Iterable[list[_Request]]) -> Iterator[Chunk[_Request]]:
        """Yield the chunk of each list of requests, in order.

        Args:
            requests: Consumed in this process, ``num_workers * prefetch_factor`` lists ahead.

        Raises:
            RuntimeError: If a worker dies, naming what it was reading.
        """
        chunks = self._start(requests)
        while True:
            try:
                chunk = next(chunks, None)
            except RuntimeError as error:
                # Stored now: the other workers are about to be ended, and would look like dead ones later.
                self._report = self.report()
                if self._report:
                    raise RunError(self._report) from error
                raise
            if chunk is None:
                return
            yield chunk

    def report(self) -> str:
        """Return what the workers that died were reading; empty if none died while reading."""
        if self._report:
            return self._report
        alive = {process.pid for process in multiprocessing.active_children()}
        dead = [row for pid, row in self._reading.tolist() if row != _IDLE and pid not in alive]
        if not dead:
            return ""
        manifest = self._dataset.manifest
        files = "\n".join(f"  {manifest.value(row, 'id')} ({manifest.location(row)})" for row in dead)
        return (
            f"a data worker process died while reading\n{files}\n"
            "Its decoder crashed, or memory ran out. Try the file alone with num_workers=0 or another "
            "backend, leave it out of the manifest, or use fewer workers."
        )

    def _start(self, requests: Iterable[list[_Request]]) -> Iterator[Chunk[_Request]]:
        self._reading.fill_(_IDLE)
        self._report = ""
        parallel: dict[str, Any] = {}
        if self._num_workers > 0:
            parallel = {
                "multiprocessing_context": self._start_method,
                "prefetch_factor": self._prefetch_factor,
                "worker_init_fn": _begin_worker,
            }
        with _quiet_start():
            loader: DataLoader[Any] = DataLoader(
                self._reader,
                batch_sampler=requests,  # type: ignore[arg-type]  # any iterable of lists
                collate_fn=_as_it_is,
                num_workers=self._num_workers,
                # Its own generator: otherwise each start would advance torch's, and resuming would be inexact.
                generator=torch.Generator(),
                **parallel,
            )
            return iter(loader)


class _ChunkReader(Dataset[Any], Generic[_Request]):
    """The dataset that runs in a worker."""

    def __init__(self, dataset: ClipDataset, read: Read[_Request], reading: Tensor) -> None:
        self._dataset, self._read, self._reading = dataset, read, reading

    def __getitem__(self, request: _Request) -> list[Clip] | Failure:
        try:
            return self._read(self._dataset, request)
        except MediaError as error:
            return Failure.of(self._dataset.manifest, request.row, error)

    def __getitems__(self, requests: list[_Request]) -> Chunk[_Request]:
        clips: list[Clip] = []
        outcomes: list[int | Failure] = []
        for request in requests:
            self._note(request.row)
            outcome = self[request]
            if not isinstance(outcome, Failure):
                clips += outcome
            outcomes.append(outcome if isinstance(outcome, Failure) else len(outcome))
        chunk = Chunk(requests, outcomes, [_about(clip) for clip in clips], pack(clips) if clips else None)
        self._note(_IDLE)
        return chunk

    def _note(self, row: int) -> None:
        worker = get_worker_info()
        if worker is not None:
            self._reading[worker.id, 0] = os.getpid()
            self._reading[worker.id, 1] = row


def _about(clip: Clip) -> tuple[str, int, int, float, float]:
    return clip.id, clip.row, clip.clip_number, clip.video_start_seconds, clip.audio_start_seconds


def _as_it_is(chunk: Any) -> Any:
    return chunk


def _begin_worker(worker: int) -> None:
    """Limit a worker to one thread, and leave Ctrl-C to the process that owns it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Suppress two warnings that do not apply here.

    Workers run one thread each and no code of the parent's threads, and their number is the user's choice.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*use of fork\(\)", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        yield


def lists_of(requests: Sequence[_Request], size: int) -> Iterator[list[_Request]]:
    """Yield consecutive lists of ``size`` requests, the last one shorter."""
    for first in range(0, len(requests), size):
        yield list(requests[first : first + size])
