"""The packets of a file without decoding them: when each is presented, its bytes, and the holes between them."""

from __future__ import annotations

import math
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from avssl.media.limits import MediaLimits
from avssl.media.pyav.parts import parts_of
from avssl.media.pyav.recordings import ByteRange
from avssl.media.pyav.source import Source

HOLE_SECONDS = 2.0
"""A stream without a packet for this long, and for several times its usual interval, has a hole: a whole clip of the
default length fits into it."""

_HOLE_INTERVALS = 8
_Packet = tuple[float, int, bool]  # presentation time in seconds, bytes, keyframe


@dataclass(frozen=True, eq=False)
class StreamPackets:
    """N packets of one stream, by presentation time."""

    seconds: np.ndarray
    """(N,) float64 presentation times, ascending."""
    num_bytes: np.ndarray
    """(N,) int64 sizes."""
    is_key: np.ndarray
    """(N,) bool: decoding can begin here."""

    @property
    def interval(self) -> float:
        """Median time from one packet to the next, in seconds; 0 with fewer than two."""
        return float(np.median(np.diff(self.seconds))) if len(self.seconds) > 1 else 0.0

    def holes(self, start: float, stop: float) -> list[tuple[float, float]]:
        """Return the (start, stop) of the holes in [start, stop)."""
        longest = max(HOLE_SECONDS, _HOLE_INTERVALS * self.interval)
        inside = self.seconds[(self.seconds >= start) & (self.seconds < stop)]
        edges = np.concatenate([[start - self.interval], inside, [stop]])
        first = np.flatnonzero(np.diff(edges) > longest)
        return [(float(edges[i]) + self.interval, float(edges[i + 1])) for i in first]


@dataclass(frozen=True, eq=False)
class Packets:
    """Packets of the streams that are read; a missing stream has none."""

    video: StreamPackets
    """Packets of the video stream."""
    audio: StreamPackets
    """Packets of the audio stream."""

    def holes(self, start: float, stop: float, *, video: bool = True, audio: bool = True) -> list[tuple[float, float]]:
        """Return the times in [start, stop) at which both streams have a hole, or the one that is named, ascending."""
        of_video = self.video.holes(start, stop) if video else [(start, stop)]
        of_audio = self.audio.holes(start, stop) if audio else [(start, stop)]
        both = [
            (max(begin, other_begin), min(end, other_end))
            for begin, end in of_video
            for other_begin, other_end in of_audio
        ]
        return sorted((begin, end) for begin, end in both if end - begin > HOLE_SECONDS)


def read_packets(path: Path | str, *, limits: MediaLimits | None = None) -> Packets:
    """Read all packets of the video and the audio stream; a torn end is left out.

    Raises:
        MediaError: If the file is not a media file.
    """
    path, limits = Path(path), limits or MediaLimits()
    parts = parts_of(path, limits)
    if parts is None:
        return Packets(*(_by_time(stream) for stream in _read_streams(path, limits, None, 0.0)))
    found = [_read_streams(path, limits, part.bytes, part.offset_seconds) for part in parts.parts]
    return Packets(*(_by_time([packet for part in streams for packet in part]) for streams in zip(*found, strict=True)))


def _read_streams(
    path: Path, limits: MediaLimits, part: ByteRange | None, offset_seconds: float
) -> tuple[list[_Packet], list[_Packet]]:
    """Read the packets of the video and the audio stream of a file, or of one recording in it."""
    with closing(Source(path, limits, part)) as source:
        streams = [source.best("video"), source.best("audio")]
        found: dict[int, list[_Packet]] = {s.index: [] for s in streams if s is not None}
        with suppress(av.FFmpegError):  # a torn packet: what was found before it stands
            for packet in source.demuxed(list(found)):
                time = _presentation_seconds(packet) + offset_seconds
                if packet.size and math.isfinite(time):
                    found[packet.stream_index].append((time, packet.size, packet.is_keyframe))
        video, audio = ([] if s is None else found[s.index] for s in streams)
    return video, audio


def _presentation_seconds(packet: Any) -> float:
    ticks = packet.dts if packet.pts is None else packet.pts
    return math.nan if ticks is None else float(ticks * packet.time_base)


def _by_time(packets: list[_Packet]) -> StreamPackets:
    table = np.array(packets, np.float64).reshape(-1, 3)
    seconds, num_bytes, is_key = table[np.argsort(table[:, 0], kind="stable")].T
    return StreamPackets(seconds, num_bytes.astype(np.int64), is_key.astype(bool))
