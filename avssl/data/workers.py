"""Read clips in worker processes, in the order of the requests.

Workers get short lists of requests and send back one chunk for each: the clips packed into a few
tensors, and the failures. Each notes the file that it reads, so that when one is killed (a decoder
that crashes, too little memory) the file is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from avssl.core.batch import Clip
from avssl.core.children import StartMethod, note
from avssl.core.errors import InputError
from avssl.core.parallel import parallel_map
from avssl.data.collate import PackedClips, pack
from avssl.data.dataset import ClipDataset
from avssl.data.ledger import Failure
from avssl.media import MediaError


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
        self._reader = _ChunkReader(dataset, read)
        self._num_workers, self._prefetch_factor, self._start_method = num_workers, prefetch_factor, start_method

    def chunks(self, requests: Iterable[list[_Request]]) -> Iterator[Chunk[_Request]]:
        """Yield the chunk of each list of requests, in order.

        Args:
            requests: Consumed in this process, ``num_workers * prefetch_factor`` lists ahead.

        Raises:
            ChildDied: If a worker dies, naming what it was reading.
        """
        return parallel_map(
            self._reader,
            requests,
            num_workers=self._num_workers,
            ahead=self._prefetch_factor,
            start_method=self._start_method,
        )


class _ChunkReader(Generic[_Request]):
    """Reads the clips of a list of requests; runs in a worker."""

    def __init__(self, dataset: ClipDataset, read: Read[_Request]) -> None:
        self._dataset, self._read = dataset, read

    def __call__(self, requests: list[_Request]) -> Chunk[_Request]:
        clips: list[Clip] = []
        outcomes: list[int | Failure] = []
        for request in requests:
            note(f"reading {self._name(request.row)}")
            outcome = self._outcome(request)
            if not isinstance(outcome, Failure):
                clips += outcome
            outcomes.append(outcome if isinstance(outcome, Failure) else len(outcome))
        chunk = Chunk(requests, outcomes, [_about(clip) for clip in clips], pack(clips) if clips else None)
        note(f"waiting, after reading {self._name(requests[-1].row)}")
        return chunk

    def _outcome(self, request: _Request) -> list[Clip] | Failure:
        try:
            return self._read(self._dataset, request)
        except MediaError as error:
            return Failure.of(self._dataset.manifest, request.row, error)

    def _name(self, row: int) -> str:
        manifest = self._dataset.manifest
        return f"{manifest.value(row, 'id')} ({manifest.location(row)})"


def _about(clip: Clip) -> tuple[str, int, int, float, float]:
    return clip.id, clip.row, clip.clip_number, clip.video_start_seconds, clip.audio_start_seconds


def lists_of(requests: Sequence[_Request], size: int) -> Iterator[list[_Request]]:
    """Yield consecutive lists of ``size`` requests, the last one shorter."""
    for first in range(0, len(requests), size):
        yield list(requests[first : first + size])
