"""Put the recordings of one file on one clock: each begins where the one before it ends."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from avssl.media.errors import MediaError, media_errors
from avssl.media.info import MediaInfo
from avssl.media.limits import MediaLimits
from avssl.media.pyav.reader import PyAVReader
from avssl.media.pyav.recordings import ByteRange, find_recordings

_SAME_CLOCK_SECONDS = 0.1  # pieces of a stream that repeat its header go on with its clock
_ALONE_SECONDS = 1.0  # audio begins a little before video, or after it, in every recording


@dataclass(frozen=True)
class Part:
    """One recording of a file."""

    bytes: ByteRange
    """Place of the recording in the file."""
    offset_seconds: float
    """Seconds from the recording's own clock to the file's."""
    info: MediaInfo
    """Spans, sizes and rates of the recording, on its own clock."""

    @property
    def start_seconds(self) -> float:
        """Time on the file's clock from which on frames and audio are those of this recording."""
        return _common_start(self.info) + self.offset_seconds

    @property
    def stop_seconds(self) -> float:
        """Time on the file's clock at which the recording ends."""
        return _stop(self.info) + self.offset_seconds

    def at(self, own_seconds: float | None) -> float | None:
        """Return a time of the recording's clock on the file's clock."""
        return None if own_seconds is None else own_seconds + self.offset_seconds


@dataclass(frozen=True)
class Parts:
    """The recordings of a file that can be read as one."""

    parts: tuple[Part, ...]
    """Recordings whose frames have one size and whose audio has one rate and number of channels."""
    unread: str
    """Recordings left out, as a sentence; empty if there are none."""

    @property
    def info(self) -> MediaInfo:
        """The header of the file as a whole."""
        first, last = self.parts[0], self.parts[-1]
        return dataclasses.replace(
            first.info,
            video_stop_seconds=last.at(last.info.video_stop_seconds),
            audio_stop_seconds=last.at(last.info.audio_stop_seconds),
            duration_seconds=last.stop_seconds - _start(first.info),
            clock_jumps=tuple(
                part.start_seconds
                for before, part in pairwise(self.parts)
                if abs(part.offset_seconds - before.offset_seconds) > _SAME_CLOCK_SECONDS
            ),
            unread=" ".join(text for text in (first.info.unread, self.unread) if text),
        )


def parts_of(path: Path, limits: MediaLimits) -> Parts | None:
    """Return the recordings of a file that holds several; None for any other file.

    Raises:
        MediaError: If none of them can be read, or together they are longer than a file may be.
    """
    ranges = find_recordings(path)
    if len(ranges) == 1:
        return None
    status = os.stat(path)
    try:
        found = _open_parts(os.path.abspath(path), status.st_size, status.st_mtime_ns, ranges, limits)
    except MediaError as error:
        raise MediaError(str(path), error.stream, error.reason, error.found, error.advice, error.second) from error
    seconds, longest = found.info.duration_seconds, limits.max_duration_seconds
    if seconds > longest:
        text = f"{seconds:.0f} s are over the limit of {longest:.0f} s."
        advice = "Cut the file, or raise max_duration_seconds."
        raise MediaError(str(path), "container", "too_large", text, advice)
    return found


@lru_cache(maxsize=1024)
def _open_parts(path: str, size: int, modified_ns: int, ranges: tuple[ByteRange, ...], limits: MediaLimits) -> Parts:
    """Open each recording once for its spans; size and time of the last change are part of the key."""
    opened: list[tuple[ByteRange, MediaInfo]] = []
    lost = []
    for number, part in enumerate(ranges, 1):
        try:
            with media_errors(path, "container"), PyAVReader(Path(path), limits, part) as reader:
                opened.append((part, reader.info))
        except MediaError as error:
            lost.append(
                f"Recording {number} of {len(ranges)}, from byte {part.start} on, cannot be read: {error.found}"
            )
            if number == len(ranges) and not opened:
                raise
    seconds: defaultdict[Hashable, float] = defaultdict(float)
    for _, info in opened:
        seconds[_format(info)] += _stop(info) - _start(info)
    kept_format = max(seconds, key=seconds.__getitem__)
    parts: list[Part] = []
    for part, info in opened:
        if _format(info) != kept_format:
            number, length = ranges.index(part) + 1, _stop(info) - _start(info)
            lost.append(
                f"Recording {number} of {len(ranges)}, of {length:.3f} s, is not read: its streams have another "
                "size, rate or number of channels. Cut the file there."
            )
            continue
        offset = parts[-1].stop_seconds - _common_start(info) if parts else 0.0
        if parts and (seconds_alone := _common_start(info) - _start(info)) > _ALONE_SECONDS:
            number = ranges.index(part) + 1
            lost.append(f"Recording {number} of {len(ranges)} begins with {seconds_alone:.3f} s of one stream alone.")
        parts.append(Part(part, offset, info))
    return Parts(tuple(parts), " ".join(lost))


def _format(info: MediaInfo) -> Hashable:
    """Return what recordings must have in common to be read as one."""
    return info.has_video, info.width, info.height, info.audio_sample_rate_hz, info.audio_num_channels


def _start(info: MediaInfo) -> float:
    return min(second for second in (info.video_start_seconds, info.audio_start_seconds) if second is not None)


def _common_start(info: MediaInfo) -> float:
    return max(second for second in (info.video_start_seconds, info.audio_start_seconds) if second is not None)


def _stop(info: MediaInfo) -> float:
    return max(second for second in (info.video_stop_seconds, info.audio_stop_seconds) if second is not None)
