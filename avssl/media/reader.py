"""The interface of an open media file, and what all backends share.

All times are seconds on the file's own presentation clock, which need not begin at zero. Spans
are half-open, ``[start, stop)``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np
from torch import Tensor

from avssl.core.errors import InputError
from avssl.media.downmix import Downmix
from avssl.media.errors import MediaError, media_errors
from avssl.media.info import MediaInfo
from avssl.media.planes import Planes, to_planes
from avssl.media.resampling import AudioWindow, resample_window

ROUNDING_SECONDS = 1e-6
"""Added to every requested time, so that a frame's own timestamp, rounded to a float, finds that frame."""


class MediaReader(ABC):
    """An open media file. Use it as a context manager, in one thread.

    A backend implements :attr:`info`, :meth:`_read_frames` and :meth:`_read_samples`; it gets times and
    windows that lie inside the file. The other methods with an underscore have defaults.

    Example:
        >>> with open_media("video.mp4") as reader:
        ...     audio = reader.read_audio(0.5, 1.0, sample_rate_hz=16000)
        ...     frames = list(reader.stream_frames([0.0, 0.5, 1.0], short_side=32))
        >>> audio.shape, len(frames), frames[0].shape
        (torch.Size([1, 8000]), 3, torch.Size([3, 32, 32]))
    """

    @property
    @abstractmethod
    def info(self) -> MediaInfo:
        """Spans, sizes and rates. The first use may decode one frame, to learn the orientation."""

    def read_frames(self, at_seconds: Sequence[float], short_side: int | None = None) -> Tensor:
        """Return the frames shown at the given times, in the order given.

        A frame is shown from its own timestamp until the next frame's; the last one until
        ``info.video_stop_seconds``. Times up to half a frame outside the stream are moved to its end.

        Args:
            at_seconds: T presentation times, in any order, repeats allowed.
            short_side: Resize so that the shorter side has this many pixels, > 0 (bilinear,
                antialiased); None keeps the upright size.

        Returns:
            ``(T, 3, H, W)`` uint8 RGB in [0, 255], upright, square pixels.

        Raises:
            MediaError: If there is no video stream, a time lies outside it, or it cannot be decoded.
        """
        times = self._clamp_times(at_seconds)
        with self._reading("video", min(times, default=0.0)):
            return self._read_frames(times, short_side)

    def stream_frames(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Tensor, None, None]:
        """Yield the frames of :meth:`read_frames` at ascending times, each decoded once.

        However long the file, only a few frames are held. The file is opened a second time, so that the
        reader may be used meanwhile, and by another thread.

        Args:
            at_seconds: Presentation times, ascending, repeats allowed.

        Yields:
            ``(3, H, W)`` uint8 RGB; the same tensor again where the same frame is still shown.

        Raises:
            MediaError: See :meth:`read_frames`.
            ValueError: If the times do not ascend.
        """
        return self._stream_frames(self._ascending_times(at_seconds), short_side)

    def stream_planes(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Planes, None, None]:
        """Yield what :meth:`stream_frames` yields as 4:2:0 planes, without converting video to RGB and back."""
        return self._stream_planes(self._ascending_times(at_seconds), short_side)

    def read_audio(
        self, start_seconds: float, stop_seconds: float, sample_rate_hz: int | None = None, num_channels: int = 1
    ) -> Tensor:
        """Return the samples of ``[start_seconds, stop_seconds)``, cut from the whole resampled stream.

        The grid starts at ``info.audio_start_seconds``; the window starts at the grid's nearest
        sample. Gaps inside the stream are silence.

        Args:
            start_seconds: Presentation time of the first sample.
            stop_seconds: Presentation time of the end, > ``start_seconds``.
            sample_rate_hz: Rate to resample to with FFmpeg's resampler; None keeps the stream's.
            num_channels: 1 (the mix of :class:`~avssl.media.downmix.Downmix`), 2, or the stream's own number.

        Returns:
            ``(num_channels, round((stop_seconds - start_seconds) * rate))`` float32, finite, nominally in [-1, 1].

        Raises:
            MediaError: If there is no audio stream, the window leaves it, it cannot be decoded, or a sample is not
                finite or far beyond full scale.
            ValueError: If the window is empty or not finite, or the rate or number of channels is unusable.
        """
        window = self._audio_window(start_seconds, stop_seconds, sample_rate_hz)
        with self._reading("audio", start_seconds):
            return resample_window(
                self._read_samples, self._header, self._channel_layout, window, num_channels, self._downmix
            )

    @property
    def notes(self) -> list[str]:
        """Remarks on what was read so far, as sentences; empty for an ordinary file."""
        return self._downmix.notes if self._header.has_audio else []

    def close(self) -> None:  # noqa: B027 (a default, not an omission)
        """Release the file. Closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @abstractmethod
    def _read_frames(self, times: list[float], short_side: int | None) -> Tensor:
        """Return ``(T, 3, H, W)`` uint8 RGB; the times lie inside the video stream."""

    @abstractmethod
    def _read_samples(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        """Return ``(C, n)`` float32 samples from ``first`` on, at the stream's own rate.

        ``first`` and ``stop`` count samples from the stream's start; n reaches ``needed_stop`` at least.
        """

    def _stream_frames(self, times: list[float], short_side: int | None) -> Generator[Tensor, None, None]:
        for second in times:
            yield self.read_frames([second], short_side)[0]

    def _stream_planes(self, times: list[float], short_side: int | None) -> Generator[Planes, None, None]:
        last: tuple[Tensor, Planes] | None = None
        for frame in self._stream_frames(times, short_side):
            if last is None or last[0] is not frame:
                last = frame, to_planes(frame)
            yield last[1]

    @property
    def _header(self) -> MediaInfo:
        """The :attr:`info`, or the part of it that needs no decoded frame."""
        return self.info

    @property
    def _channel_layout(self) -> str:
        """FFmpeg's name of the channel layout."""
        return "mono"

    @contextmanager
    def _reading(self, stream: str, second: float) -> Iterator[None]:
        """Begin a read: start its time limit, and turn whatever it raises into :class:`MediaError`."""
        self._start_deadline()
        with media_errors(self._header.path, stream, second), self._reporting(stream, second):
            yield

    def _start_deadline(self) -> None:  # noqa: B027 (a default, not an omission)
        """Start the time limit of a read, in backends that can stop one."""

    @cached_property
    def _downmix(self) -> Downmix:
        info = self._header
        rate = info.audio_sample_rate_hz or 1
        seconds = (info.audio_stop_seconds or 0.0) - (info.audio_start_seconds or 0.0)
        return Downmix(info.path, rate, round(seconds * rate))

    def _reporting(self, stream: str, second: float) -> AbstractContextManager[None]:
        """Return a context that turns a decoder's errors into :class:`MediaError`."""
        return nullcontext()

    def _clamp_times(self, at_seconds: Sequence[float]) -> list[float]:
        """Return the requested times, moved inside the video stream where they are up to half a frame outside."""
        info = self._header
        if info.video_start_seconds is None or info.video_stop_seconds is None:
            advice = "Leave the file out, or read only its audio."
            raise MediaError(info.path, "video", "no_video", "there is no video stream.", advice)
        start, stop = info.video_start_seconds, info.video_stop_seconds
        tolerance = (0.5 / info.video_fps if info.video_fps else 0.0) + ROUNDING_SECONDS
        times = []
        for second in map(float, at_seconds):
            if not math.isfinite(second):
                raise InputError(f"at_seconds must be finite, got {second} for {info.path}.")
            if not start - tolerance <= second <= stop + tolerance:
                found = f"outside the video stream, which spans {start:.3f} to {stop:.3f} s."
                raise MediaError(info.path, "video", "out_of_range", found, "Request times inside it.", second)
            times.append(min(max(second, start), stop))
        return times

    def _ascending_times(self, at_seconds: Sequence[float]) -> list[float]:
        times = self._clamp_times(at_seconds)
        if any(later < earlier for earlier, later in pairwise(times)):
            raise InputError(f"at_seconds of a stream must ascend, got another order for {self._header.path}.")
        return times

    def _audio_window(self, start_seconds: float, stop_seconds: float, sample_rate_hz: int | None) -> AudioWindow:
        """Return a window on the stream's grid at the requested rate."""
        info = self._header
        if info.audio_start_seconds is None or info.audio_stop_seconds is None or info.audio_sample_rate_hz is None:
            advice = "Leave the file out, or read only its video."
            raise MediaError(info.path, "audio", "no_audio", "there is no audio stream.", advice)
        rate = info.audio_sample_rate_hz if sample_rate_hz is None else sample_rate_hz
        if rate <= 0:
            raise InputError(f"sample_rate_hz must be positive, got {sample_rate_hz}.")
        if not (math.isfinite(start_seconds) and math.isfinite(stop_seconds) and start_seconds < stop_seconds):
            found = f"got {start_seconds} and {stop_seconds} for {info.path}."
            raise InputError(f"need start_seconds < stop_seconds, {found}")
        start, stop = info.audio_start_seconds, info.audio_stop_seconds
        half_sample = 0.5 / min(rate, info.audio_sample_rate_hz) + ROUNDING_SECONDS
        if start_seconds < start - half_sample or stop_seconds > stop + half_sample:
            found = f"{start_seconds:.3f} to {stop_seconds:.3f} s leaves the audio stream, which spans {start:.3f} to "
            found += f"{stop:.3f} s."
            raise MediaError(info.path, "audio", "out_of_range", found, "Request a window inside it.", start_seconds)
        first, count = round((start_seconds - start) * rate), round((stop_seconds - start_seconds) * rate)
        return AudioWindow(max(0, first), count, rate)


def resized(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Return ``(height, width)`` scaled so that the shorter side has ``short_side`` pixels; None keeps the size.

    Raises:
        ValueError: If ``short_side`` is not positive.
    """
    if short_side is None:
        return height, width
    if short_side <= 0:
        raise InputError(f"short_side must be positive, got {short_side}.")
    shorter = min(width, height)
    return max(1, round(height * short_side / shorter)), max(1, round(width * short_side / shorter))
