"""Limits on the media files that are opened: one set for every verb, and stored in manifests."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, cast

from avssl.core.errors import InputError
from avssl.core.ranges import Count, Ratio, Seconds, checked
from avssl.media.errors import DeadlineExceeded, MediaError

LIMITS_COLUMN = "limits"
"""Column of a manifest with the limits of a row, such as ``max_pixels=50000000``; empty: the defaults."""


_PART_SECONDS = 10.0


@checked
@dataclass(frozen=True)
class MediaLimits:
    """Limits on a media file. A file beyond one is not decoded.

    Raises:
        ValueError: If a limit is out of range.

    Example:
        >>> try:
        ...     open_media("video.mp4", limits=MediaLimits(max_duration_seconds=1.0))
        ... except MediaError as error:
        ...     print(error.reason)
        too_large
    """

    max_pixels: Count = 2**25
    """Largest width * height of a frame; the default is just above 7680 x 4320."""
    max_aspect: Ratio = 8.0
    """Largest ratio of the longer to the shorter side of a frame with square pixels, >= 1."""
    max_duration_seconds: Seconds = 24 * 3600.0
    """Longest file, in seconds."""
    max_decode_seconds: Seconds = 60.0
    """Longest processor time for decoding one clip, or 10 s of a longer part of the file, in seconds."""

    def check_pixels(self, path: str, width: int, height: int) -> None:
        """Raise MediaError if a frame has too many pixels."""
        if width * height > self.max_pixels:
            found = f"{width} x {height} are over the limit of {self.max_pixels} pixels."
            raise MediaError(path, "video", "too_large", found, "Scale the file down, or raise max_pixels.")

    def check_size(self, path: str, width: int, height: int) -> None:
        """Raise MediaError if a frame, in square pixels, has too many of them or is too long a strip.

        Frames are scaled by their shorter side, and clips of a batch share one canvas: a strip would enlarge all of it.
        """
        longer, shorter = max(width, height), min(width, height)
        if longer > self.max_aspect * shorter:
            found = f"frames of {width} x {height} square pixels are over the limit of {self.max_aspect:g} to 1."
            advice = "Crop the file or correct its pixel aspect ratio, or raise max_aspect."
            raise MediaError(path, "video", "too_large", found, advice)
        self.check_pixels(path, width, height)

    @property
    def text(self) -> str:
        """The limits that differ from the defaults, for :data:`LIMITS_COLUMN`; empty if none does."""
        changed = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        return " ".join(f"{name}={getattr(self, name):.15g}" for name in changed)

    def completed(self, text: str | None) -> MediaLimits:
        """Return these limits, with those of a row of a manifest where these are the defaults.

        Raises:
            ValueError: If the text is not of the form of :attr:`text`.
        """
        if not text:
            return self
        defaults = {field.name: field.default for field in fields(self)}
        stored = {name: value for name, value in _parse(text).items() if getattr(self, name) == defaults[name]}
        return replace(self, **cast(dict[str, Any], stored))


@lru_cache(maxsize=256)
def _parse(text: str) -> dict[str, float]:
    """Return name → value of a cell of :data:`LIMITS_COLUMN`."""
    kinds = {name: type(value) for name, value in vars(MediaLimits()).items()}
    values: dict[str, float] = {}
    for word in text.split():
        name, _, value = word.partition("=")
        try:
            values[name] = kinds[name](float(value))
        except (KeyError, ValueError, OverflowError) as error:
            names = ", ".join(kinds)
            raise InputError(f"limits ({text!r}) must be words such as max_pixels=50000000, of {names}.") from error
    return values


class Deadline:
    """Limit on the processor time of one read. Decoders check it at every packet and frame.

    There is none before the first :meth:`start`. It counts processor time of the thread, so that neither a busy machine
    nor a slow disk makes a file a bad one.

    Args:
        limits: ``max_decode_seconds`` is the limit.
    """

    def __init__(self, limits: MediaLimits) -> None:
        self.limit_seconds = limits.max_decode_seconds
        self._until = math.inf

    def start(self) -> None:
        """Begin a read, in the thread that calls :meth:`check`."""
        self._until = time.thread_time() + self.limit_seconds

    def allow(self, media_seconds: float) -> None:
        """Lengthen the time of a read of which this much of the file is done."""
        self._until += self.limit_seconds * media_seconds / _PART_SECONDS

    def check(self) -> None:
        """Raise :class:`DeadlineExceeded` if the time of this read is over."""
        if time.thread_time() > self._until:
            raise DeadlineExceeded(f"reading took more than {self.limit_seconds:g} s of processor time.")
