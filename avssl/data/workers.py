"""Read clips in worker processes, in the order of the requests.

Workers get short lists of requests and send back one chunk for each: the failures, and the clips packed into a few
tensors in shared memory (:mod:`avssl.core.slots`). Each notes the file that it reads, so that when one is killed (a
decoder that crashes, too little memory) the file is known.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from avssl.core.batch import Clip
from avssl.core.children import StartMethod, note
from avssl.core.engines import current_engine
from avssl.core.errors import InputError
from avssl.core.manifest import is_url
from avssl.core.needs import TemporalWindows
from avssl.core.parallel import Interrupt, parallel_map
from avssl.core.slots import Slots, allocate
from avssl.data import packing
from avssl.data.dataset import ClipDataset
from avssl.data.ledger import Failure
from avssl.data.packing import PackedClips, pack
from avssl.media import MediaError
from avssl.media.backends import ON_GPU

_log = logging.getLogger(__name__)
_SIDE, _NATIVE_SIDE = 256, 512
"""Short side of the frames that a slot has room for, at least, and if they keep their size."""
_WIDTH = 2
"""Width of those frames over their height."""


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

    def __iter__(self) -> Iterator[tuple[_Request, range | Failure]]:
        """Yield each request with the indices of its clips, or with its failure."""
        first = 0
        for request, outcome in zip(self.requests, self.outcomes, strict=True):
            if isinstance(outcome, Failure):
                yield request, outcome
            else:
                yield request, range(first, first := first + outcome)

    def clip(self, i: int) -> Clip:
        """Return clip i, whose frames are a view of ``packed``."""
        assert self.packed is not None, "a clip was counted but not packed"
        clip_id, row, number, video_start, audio_start = self.about[i]
        video, chroma = self.packed.planes(i)
        return Clip(clip_id, row, number, video, video_start, self.packed.samples(i), audio_start, chroma)


class WorkerPool(Generic[_Request]):
    """Worker processes over one dataset.

    Args:
        dataset: The clips.
        read: Reads the clips of a request.
        clips_per_list: Clips that a list of requests usually has; the memory that is shared has room for as many.
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
        clips_per_list: int,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        start_method: StartMethod = "fork",
    ) -> None:
        if num_workers < 0:
            raise InputError(f"num_workers ({num_workers}) must not be negative.")
        if prefetch_factor < 1:
            raise InputError(f"prefetch_factor ({prefetch_factor}) must be at least 1.")
        self._reader = _ChunkReader(dataset, read)
        self._slot_bytes = clips_per_list * _room_bytes(dataset)
        # A forked process cannot use the GPU of its parent.
        self._start_method: StartMethod = "spawn" if dataset.backend in ON_GPU else start_method
        self._slots: Slots | None = None
        self._num_spilled = 0
        self.num_workers, self.prefetch_factor = num_workers, prefetch_factor

    def chunks(
        self, requests: Iterable[list[_Request]], *, num_held: int = 3, interrupt: Interrupt | None = None
    ) -> Generator[Chunk[_Request], None, None]:
        """Yield the chunk of each list of requests, in order.

        Args:
            requests: Consumed in this process, ``num_workers * prefetch_factor`` lists ahead.
            num_held: Chunks that the caller usually holds. Those of whoever holds more get memory of their own.
            interrupt: Ends the wait for a chunk from another thread.

        Raises:
            ChildDied: If a worker dies, naming what it was reading.
        """
        if self.num_workers and current_engine() is None:
            self._slots = _find_slots(self.num_workers * self.prefetch_factor + num_held, self._slot_bytes)
        try:
            yield from parallel_map(
                self._reader,
                requests,
                num_workers=self.num_workers,
                ahead=self.prefetch_factor,
                start_method=self._start_method,
                slots=self._slots,
                interrupt=interrupt,
                files=self._reader.files,
            )
        finally:
            self._num_spilled, self._slots = self.num_spilled, None

    @property
    def num_spilled(self) -> int:
        """Chunks that did not fit into the memory that is shared, or found none free, and took another way."""
        return self._num_spilled + (self._slots.num_spilled if self._slots else 0)


@dataclass(frozen=True)
class _ChunkReader(Generic[_Request]):
    """Reads the clips of a list of requests; runs in a worker."""

    _dataset: ClipDataset
    _read: Read[_Request]

    def files(self, requests: list[_Request]) -> list[str]:
        """Return the files of requests; none if they are in an object store."""
        manifest = self._dataset.manifest
        return [] if is_url(manifest.place) else list({manifest.location(request.row) for request in requests})

    def __call__(self, requests: list[_Request]) -> Chunk[_Request]:
        clips: list[Clip] = []
        outcomes: list[int | Failure] = []
        for request in requests:
            note(f"reading {self._name(request.row)}")
            outcome = self._outcome(request)
            if not isinstance(outcome, Failure):
                clips += outcome
            outcomes.append(outcome if isinstance(outcome, Failure) else len(outcome))
        packed = pack(clips, _empty_in_slot, as_int16=True) if clips else None
        chunk = Chunk(requests, outcomes, [_about(clip) for clip in clips], packed)
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


def _find_slots(count: int, num_bytes: int) -> Slots | None:
    try:
        return Slots(count, num_bytes)
    except OSError as error:  # address space is limited (ulimit -v)
        size = f"{count * num_bytes >> 20} MiB"
        _log.warning("there is no room for %s that workers share (%s); clips take a slower way.", size, error)
        return None


def _room_bytes(dataset: ClipDataset) -> int:
    """Return the bytes of a clip that a slot has room for; they take no memory until they are used."""
    sampling, windows = dataset.sampling, dataset.windows or TemporalWindows()
    side = max(sampling.short_side or _NATIVE_SIDE, _SIDE)
    video = sampling.num_frames * windows.num_views * 3 * side * side * _WIDTH
    return video + sampling.num_samples * windows.num_audio * torch.float32.itemsize


def _empty_in_slot(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a new tensor in the slot of this worker's answer, or elsewhere if there is no room."""
    memory = allocate(math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(memory, dtype=dtype).view(shape) if memory else packing.empty(shape, dtype)


def _about(clip: Clip) -> tuple[str, int, int, float, float]:
    return clip.id, clip.row, clip.clip_number, clip.video_start_seconds, clip.audio_start_seconds


def lists_of(requests: Sequence[_Request], size: int) -> Iterator[list[_Request]]:
    """Yield consecutive lists of ``size`` requests, the last one shorter."""
    for first in range(0, len(requests), size):
        yield list(requests[first : first + size])
