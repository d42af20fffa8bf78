"""One door to every decoder: what a reader gives, what a file is, and how a bad file is reported.

All times are seconds on the file's own presentation clock, which need not begin at zero. Spans
are half-open, ``[start, stop)``.
"""

from __future__ import annotations

import importlib
import math
import os
import re
import stat
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from torch import Tensor

from avssl.core.errors import AvsslError, InputError, RunError
from avssl.media.planes import Planes

Reason = Literal[
    "unreadable",
    "not_media",
    "no_video",
    "no_audio",
    "truncated",
    "too_short",
    "out_of_range",
    "still_picture",
    "silent",
    "too_large",
    "timeout",
    "crashed",
]
"""Why a file cannot be used: by readers, by those who draw clips, and by the health check of a folder."""

MAX_PIXELS = 2**25
"""Default limit of width * height: 33.5 million, just above 7680 x 4320."""

MAX_DURATION_SECONDS = 24 * 3600.0
"""Default limit of a file's length: one day."""

MAX_FPS = 1000.0
MAX_SAMPLE_RATE_HZ = 768_000
MAX_CHANNELS = 64
"""What no camera and no sound card gives: a header that says more is wrong, or made to hurt."""

ROUNDING_SECONDS = 1e-6
"""Added to every asked time, so that a frame's own timestamp, rounded to a float, finds that frame."""


class MediaError(AvsslError):
    """A media file that cannot give what was asked; the text names file, stream, second and remedy.

    It pickles, so it comes whole out of worker processes.

    Args:
        path: The file, as the caller named it.
        stream: ``"container"``, ``"video"`` or ``"audio"``.
        reason: One machine word, for ledgers of dropped files.
        found: What was found, in words.
        advice: What to do about it.
        second: Presentation time the fault belongs to, where there is one.
    """

    def __init__(
        self, path: str, stream: str, reason: Reason, found: str, advice: str, second: float | None = None
    ) -> None:
        self.path = str(path)
        self.stream = stream
        self.reason = reason
        self.found = found
        self.advice = advice
        self.second = second
        place = "" if second is None else f" at {second:.3f} s"
        super().__init__(f"{self.path}: {stream}{place}: {found} {advice}")

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str, Reason, str, str, float | None]]:
        return type(self), (self.path, self.stream, self.reason, self.found, self.advice, self.second)


@dataclass(frozen=True)
class MediaInfo:
    """What the container says of a file. Fields of a missing track are None."""

    path: str
    """The file, as the caller named it."""
    duration_seconds: float
    """From the earliest start to the latest stop of the picture and sound tracks."""
    video_start_seconds: float | None
    """Presentation time of the first frame."""
    video_stop_seconds: float | None
    """Presentation time at which the last frame ends."""
    video_fps: float | None
    """Average frames per second."""
    width: int | None
    """Upright, in square pixels."""
    height: int | None
    """Upright, in square pixels."""
    video_codec: str | None
    """FFmpeg's name, such as ``"h264"``."""
    audio_start_seconds: float | None
    """Presentation time of the first sample, after the encoder's priming is cut off."""
    audio_stop_seconds: float | None
    """Presentation time at which the last sample ends."""
    audio_sample_rate_hz: int | None
    """Of the track itself, before any resampling."""
    audio_num_channels: int | None
    """Of the track itself, before any mixing."""
    audio_codec: str | None
    """FFmpeg's name, such as ``"aac"``."""

    @property
    def has_video(self) -> bool:
        """Whether there is a picture track; cover art does not count."""
        return self.video_start_seconds is not None

    @property
    def has_audio(self) -> bool:
        """Whether there is a sound track."""
        return self.audio_start_seconds is not None


class MediaReader(Protocol):
    """An open media file. Use it as a context manager, in one thread."""

    @property
    def info(self) -> MediaInfo:
        """Spans, sizes and rates. The first use may decode one frame, to learn which way is up."""

    def read_frames(self, at_seconds: Sequence[float], short_side: int | None = None) -> Tensor:
        """The frames shown at the given times, in the order given.

        A frame is shown from its own timestamp until the next frame's; the last one until
        ``info.video_stop_seconds``. Times up to half a frame outside the track are moved to its end.

        Args:
            at_seconds: T presentation times, in any order, repeats allowed.
            short_side: Resize so that the shorter side has this many pixels, > 0 (bilinear,
                antialiased); None keeps the upright size.

        Returns:
            ``(T, 3, H, W)`` uint8 RGB in [0, 255], upright, square pixels.

        Raises:
            MediaError: If there is no picture track, a time lies outside it, or it cannot be decoded.
        """

    def stream_frames(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Tensor, None, None]:
        """The frames of :meth:`read_frames` at ascending times, one after another, each decoded once.

        However long the file, no more than a few frames are held. The file is opened a second time
        for it, so that the reader may be used meanwhile, and by another thread.

        Args:
            at_seconds: Presentation times, ascending, repeats allowed.
            short_side: As for :meth:`read_frames`.

        Yields:
            ``(3, H, W)`` uint8 RGB; the same tensor again where the same frame is still shown.

        Raises:
            MediaError: As :meth:`read_frames`.
            ValueError: If the times do not ascend.
        """

    def stream_planes(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Planes, None, None]:
        """As :meth:`stream_frames`, in the planes that video is stored in: nothing is converted twice."""

    def read_audio(
        self, start_seconds: float, stop_seconds: float, sample_rate_hz: int | None = None, num_channels: int = 1
    ) -> Tensor:
        """The samples of ``[start_seconds, stop_seconds)``, cut from the resampled whole.

        The grid starts at ``info.audio_start_seconds``; the window starts at the grid's nearest
        sample. Gaps inside the track are silence.

        Args:
            start_seconds: Presentation time of the first sample.
            stop_seconds: Presentation time of the end, > ``start_seconds``.
            sample_rate_hz: Rate to resample to with FFmpeg's resampler; None keeps the track's.
            num_channels: 1 (FFmpeg's downmix), 2, or the track's own number.

        Returns:
            ``(num_channels, round((stop_seconds - start_seconds) * rate))`` float32, nominally in [-1, 1].

        Raises:
            MediaError: If there is no sound track, the window leaves it, or it cannot be decoded.
        """

    def close(self) -> None:
        """Releases the file. Closing twice is harmless."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


_BACKENDS = {  # name: (our reader's module, its class, the package it needs)
    "torchcodec": ("avssl.media.torchcodec_reader", "TorchCodecReader", "torchcodec"),
    "pyav": ("avssl.media.pyav.reader", "PyAVReader", "av"),
    "decord": ("avssl.media.decord_reader", "DecordReader", "decord"),
}
_AUTO = ("torchcodec", "pyav")  # decord is unmaintained: on request only


@cache
def _why_not(backend: str) -> str | None:
    """None if the backend loads, else why it does not, in one line."""
    module, _, package = _BACKENDS[backend]
    try:
        importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # a broken binary wheel raises any of the three
        lines = str(error).strip().splitlines()
        return f"{package} does not load: {type(error).__name__}: {lines[0] if lines else 'no message'}"
    return None


def available_backends() -> dict[str, str | None]:
    """Each backend's name with None if it loads, else the reason why it does not."""
    return {name: _why_not(name) for name in _BACKENDS}


def open_media(
    path: str | os.PathLike[str],
    backend: str = "auto",
    *,
    max_pixels: int = MAX_PIXELS,
    max_duration_seconds: float = MAX_DURATION_SECONDS,
) -> MediaReader:
    """Opens a local media file by its header; nothing is scanned.

    Only regular files are opened, and only as single-file containers: URLs, FFmpeg protocol
    strings, playlists, manifests and image sequences are refused.

    Args:
        path: The file.
        backend: ``"auto"`` (torchcodec where it loads, PyAV otherwise), ``"pyav"``, ``"torchcodec"``
            or ``"decord"``.
        max_pixels: Largest width * height that is decoded.
        max_duration_seconds: Longest file that is opened.

    Raises:
        MediaError: If the file is missing, no media, damaged or over a limit.
        ValueError: If ``backend`` is unknown.
        RuntimeError: If ``backend`` does not load here.
    """
    if backend == "auto":
        backend = next((name for name in _AUTO if _why_not(name) is None), "pyav")
    if backend not in _BACKENDS:
        raise InputError(f"backend must be one of {['auto', *_BACKENDS]}, got {backend!r}.")
    if reason := _why_not(backend):
        raise RunError(f"media backend {backend!r} cannot be used: {reason}. See all with: avssl doctor")
    module, class_name, _ = _BACKENDS[backend]
    reader: MediaReader = getattr(importlib.import_module(module), class_name)(
        local_file(path), max_pixels=max_pixels, max_duration_seconds=max_duration_seconds
    )
    return reader


def local_file(path: str | os.PathLike[str]) -> Path:
    """The path, if it names a non-empty regular file; links are followed."""
    name = os.fspath(path)
    try:
        status = os.stat(name)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        if re.match(r"[A-Za-z][A-Za-z0-9+.,-]+:", name):
            found, advice = "this is a URL or protocol string.", "Only local files are read: download it first."
        else:
            found = f"the file cannot be opened ({getattr(error, 'strerror', None) or error})."
            advice = "Check the path and its permissions."
        raise MediaError(name, "container", "unreadable", found, advice) from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(name, "container", "unreadable", "this is a directory.", "Name one media file.")
    if not stat.S_ISREG(status.st_mode):
        found = "this is no regular file but a device, pipe or socket."
        raise MediaError(name, "container", "unreadable", found, "Copy it to a file first.")
    if status.st_size == 0:
        raise MediaError(name, "container", "not_media", "the file is empty.", "Fetch or record it again.")
    if not os.access(name, os.R_OK):
        raise MediaError(name, "container", "unreadable", "no permission to read the file.", "Change its mode.")
    return Path(name)


def clamp_times(info: MediaInfo, at_seconds: Sequence[float]) -> list[float]:
    """The asked times as floats inside the picture track, for readers.

    Raises:
        MediaError: If there is no picture track or a time lies more than half a frame outside it.
        ValueError: If a time is not finite.
    """
    if info.video_start_seconds is None or info.video_stop_seconds is None:
        raise MediaError(
            info.path, "video", "no_video", "there is no picture track.", "Leave the file out, or read only its sound."
        )
    start, stop = info.video_start_seconds, info.video_stop_seconds
    half_frame = 0.5 / info.video_fps if info.video_fps else 0.0
    times = []
    for second in map(float, at_seconds):
        if not math.isfinite(second):
            raise InputError(f"at_seconds must be finite, got {second} for {info.path}.")
        if not start - half_frame - ROUNDING_SECONDS <= second <= stop + half_frame + ROUNDING_SECONDS:
            found = f"outside the picture track, which spans {start:.3f} to {stop:.3f} s."
            raise MediaError(info.path, "video", "out_of_range", found, "Ask for times inside it.", second)
        times.append(min(max(second, start), stop))
    return times


def ascending_times(info: MediaInfo, at_seconds: Sequence[float]) -> list[float]:
    """As :func:`clamp_times`, for streams.

    Raises:
        MediaError: As :func:`clamp_times`.
        ValueError: If a time is before the one in front of it.
    """
    times = clamp_times(info, at_seconds)
    if any(later < earlier for earlier, later in pairwise(times)):
        raise InputError(f"a stream's at_seconds must ascend, got another order for {info.path}.")
    return times


def audio_window(
    info: MediaInfo, start_seconds: float, stop_seconds: float, sample_rate_hz: int | None
) -> tuple[int, int, int]:
    """(first sample, number of samples, rate) of a window on the track's grid at that rate, for readers.

    Raises:
        MediaError: If there is no sound track or the window leaves it by more than half a sample.
        ValueError: If the window is empty or not finite, or the rate is not positive.
    """
    if info.audio_start_seconds is None or info.audio_stop_seconds is None or info.audio_sample_rate_hz is None:
        raise MediaError(
            info.path, "audio", "no_audio", "there is no sound track.", "Leave the file out, or read only its picture."
        )
    rate = info.audio_sample_rate_hz if sample_rate_hz is None else sample_rate_hz
    if rate <= 0:
        raise InputError(f"sample_rate_hz must be positive, got {sample_rate_hz}.")
    if not (math.isfinite(start_seconds) and math.isfinite(stop_seconds) and start_seconds < stop_seconds):
        raise InputError(f"need start_seconds < stop_seconds, got {start_seconds} and {stop_seconds} for {info.path}.")
    start, stop = info.audio_start_seconds, info.audio_stop_seconds
    half_sample = 0.5 / min(rate, info.audio_sample_rate_hz) + ROUNDING_SECONDS
    if start_seconds < start - half_sample or stop_seconds > stop + half_sample:
        found = f"{start_seconds:.3f} to {stop_seconds:.3f} s leaves the sound track, which spans {start:.3f} to "
        found += f"{stop:.3f} s."
        raise MediaError(info.path, "audio", "out_of_range", found, "Ask for a window inside it.", start_seconds)
    return max(0, round((start_seconds - start) * rate)), round((stop_seconds - start_seconds) * rate), rate
