"""Read a file that holds several recordings: frames and audio of a time come from the same one."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avssl.media.errors import MediaError
from avssl.media.info import MediaInfo
from avssl.media.limits import MediaLimits
from avssl.media.planes import Planes
from avssl.media.pyav.parts import Parts
from avssl.media.pyav.reader import PyAVReader
from avssl.media.reader import ROUNDING_SECONDS, MediaReader


class JoinedReader(MediaReader):
    """Reads the recordings of one file through PyAV on one clock; see :class:`avssl.media.MediaReader`.

    Args:
        path: A local regular file.
        limits: Limits on the file.
        parts: Its recordings.
    """

    def __init__(self, path: Path, limits: MediaLimits, parts: Parts) -> None:
        self._path = path
        self._limits = limits
        self._parts = parts.parts
        self._info = dataclasses.replace(parts.info, path=str(path))
        self._readers: dict[int, PyAVReader] = {}

    @property
    def info(self) -> MediaInfo:
        """Spans, sizes and rates of all recordings."""
        return self._info

    @property
    def _channel_layout(self) -> str:
        return self._reader(0)._channel_layout

    def _reader(self, number: int) -> PyAVReader:
        if number not in self._readers:
            self._readers[number] = PyAVReader(self._path, self._limits, self._parts[number].bytes)
        return self._readers[number]

    def _number(self, second: float) -> int:
        """Return the index of the recording that plays at a time."""
        later = (n for n, part in enumerate(self._parts) if part.start_seconds > second + ROUNDING_SECONDS)
        return max(0, next(later, len(self._parts)) - 1)

    def _read_frames(self, times: list[float], short_side: int | None) -> Tensor:
        numbers = [self._number(second) for second in times]
        found: dict[int, Tensor] = {}
        for number in sorted(set(numbers)) or [0]:
            places = [place for place, other in enumerate(numbers) if other == number]
            with self._errors_of(number):
                frames = self._reader(number).read_frames(
                    self._own_times(number, [times[p] for p in places]), short_side
                )
            found |= dict(zip(places, frames, strict=True))
            empty = frames[:0]
        sizes = {frame.shape for frame in found.values()}
        if len(sizes) > 1:
            text = "the recordings in this file have frames of different sizes."
            raise MediaError(str(self._path), "video", "unreadable", text, "Cut the file into its recordings.")
        return torch.stack([found[place] for place in range(len(times))]) if times else empty

    def _own_times(self, number: int, times: Sequence[float]) -> list[float]:
        """Return times on a recording's own clock, moved inside its video: audio may begin earlier or end later."""
        part = self._parts[number]
        info = self._reader(number)._header
        assert info.video_start_seconds is not None
        assert info.video_stop_seconds is not None
        return [
            min(max(second - part.offset_seconds, info.video_start_seconds), info.video_stop_seconds)
            for second in times
        ]

    def _read_samples(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        """Return samples on the grid of the file; between the recordings is silence."""
        info = self._header
        rate, origin = info.audio_sample_rate_hz, info.audio_start_seconds
        assert rate is not None
        assert origin is not None
        out = np.zeros((info.audio_num_channels or 1, stop - first), np.float32)
        reached = 0
        for number, part in enumerate(self._parts):
            begin, end = part.at(part.info.audio_start_seconds), part.at(part.info.audio_stop_seconds)
            assert begin is not None
            assert end is not None
            base, total = round((begin - origin) * rate), round((end - begin) * rate)
            begun = round((part.start_seconds - begin) * rate) if number else 0
            low, high = max(first - base, begun), min(stop - base, total)
            if low >= high:
                continue
            with self._errors_of(number):
                reader = self._reader(number)
                with reader._reading("audio", (part.info.audio_start_seconds or 0.0) + low / rate):
                    samples = reader._read_samples(low, high, min(high, max(low, needed_stop - base)))
            reached = base + low + samples.shape[1] - first
            out[:, reached - samples.shape[1] : reached] = samples
        return out[:, : max(reached, needed_stop - first)]

    def _stream_frames(self, times: list[float], short_side: int | None) -> Generator[Tensor, None, None]:
        for number, own in self._runs(times):
            with self._errors_of(number):
                yield from self._reader(number)._stream_frames(own, short_side)

    def _stream_planes(self, times: list[float], short_side: int | None) -> Generator[Planes, None, None]:
        for number, own in self._runs(times):
            with self._errors_of(number):
                yield from self._reader(number)._stream_planes(own, short_side)

    def _runs(self, times: list[float]) -> Iterator[tuple[int, list[float]]]:
        for number, group in groupby(times, self._number):
            yield number, self._own_times(number, list(group))

    @contextmanager
    def _errors_of(self, number: int) -> Iterator[None]:
        """Name the second of a fault on the clock of the file."""
        try:
            yield
        except MediaError as error:
            second = self._parts[number].at(error.second)
            raise MediaError(error.path, error.stream, error.reason, error.found, error.advice, second) from error

    def close(self) -> None:
        """Release the file."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
