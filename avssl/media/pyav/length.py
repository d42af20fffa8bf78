"""How far the streams of a file really go, beside what its header says.

A file that was cut off often opens, and often still plays: its header, which comes first, is whole. So the packets at
its end are looked at, without decoding them, and on request every picture is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from avssl.media.pyav.source import Source
from avssl.media.pyav.stated_size import missing_bytes
from avssl.media.reader import MAX_PIXELS, MediaError

_TAIL_SECONDS = 3.0
_SLACK_SECONDS = 0.1  # a tail that ends earlier than this before the header's word is not trusted: all packets tell

_STATE_LENGTH = ("matroska,webm", "flv")

CUT_SECONDS = 0.5
"""Headers round. Where this much or more is missing at the end, the file was cut off."""


@dataclass(frozen=True)
class StreamEnds:
    """Presentation times at which the last whole packets end; None for a track that is missing or empty."""

    video_stop_seconds: float | None
    """Of the picture track."""
    audio_stop_seconds: float | None
    """Of the sound track."""


def measure_ends(path: Path | str, *, max_pixels: int = MAX_PIXELS, decode: bool = False) -> StreamEnds:
    """Where the picture and sound tracks end in the file itself.

    Reads the last seconds of the file, and all of it when these end before the header's word.

    Args:
        path: A file that :func:`avssl.media.open_media` opens.
        max_pixels: Largest width * height that is decoded.
        decode: Decode every picture of the file too.

    Raises:
        MediaError: If less of the file is there than its index or header says (reason ``"truncated"``, with the
            second at which it ends), or a picture cannot be decoded.
    """
    path = Path(path)
    with closing(Source(path, max_pixels)) as source:
        streams = [source.best("video"), source.best("audio")]
        there = [stream for stream in streams if stream is not None]
        if source.is_cut():
            raise _cut(source, there)
        stated_stop = _stated_stop(source)
        kept = [None if stream is None else stream.index for stream in streams]
        indices = [stream.index for stream in there]  # before the spans: measuring them may void the streams
        stated = dict(zip(indices, (stop for _, stop in source.spans(there)), strict=True))
        stops = _packet_stops(source, list(stated), min(stated.values(), default=0.0) - _TAIL_SECONDS)
    if any(stops.get(index, -math.inf) < stop - _SLACK_SECONDS for index, stop in stated.items()):
        with closing(Source(path, max_pixels)) as source:
            stops = _packet_stops(source, list(stated), None)
    _refuse_missing(path, stops, stated_stop)
    if decode and kept[0] is not None:
        with closing(Source(path, max_pixels)) as source:
            _decode_pictures(source, kept[0])
    return StreamEnds(*(None if index is None else stops.get(index) for index in kept))


def _stated_stop(source: Source) -> float:
    """Where the file ends by its header, in the containers whose header says it of the file, not of each track."""
    container = source.container
    if container.duration is None or container.format.name not in _STATE_LENGTH:
        return -math.inf
    return float((container.start_time or 0) + container.duration) / av.time_base


def _refuse_missing(path: Path, stops: dict[int, float], stated_stop: float) -> None:
    """Raises if less is there than the header says of the file, in bytes or in seconds."""
    last = max(stops.values(), default=0.0)
    found = ""
    if missing := missing_bytes(path):
        found = f"{missing} bytes are missing at its end, by its own word."
    elif last < stated_stop - CUT_SECONDS:
        found = f"the file ends at {last:.3f} s although the container says {stated_stop:.3f} s."
    if found:
        raise MediaError(str(path), "container", "truncated", found, "It was cut off: fetch it again.", last)


def _packet_stops(source: Source, indices: list[int], from_seconds: float | None) -> dict[int, float]:
    """Stream index → the latest end of its packets from a time on, or of all; one of unknown length lasts a frame."""
    container = source.container
    if from_seconds is not None:
        # Where a container cannot seek, it is read from the start.
        with suppress(av.FFmpegError):
            container.seek(int(from_seconds * av.time_base))
    frame_ticks = {index: _frame_ticks(container.streams[index]) for index in indices}
    stops: dict[int, int] = {}
    with suppress(av.FFmpegError):  # a torn last packet: what was found before it stands
        for packet in source.demuxed(indices):
            if packet.pts is not None and not packet.is_corrupt:
                index = packet.stream_index
                stop = packet.pts + (packet.duration or frame_ticks[index])
                stops[index] = max(stop, stops.get(index, stop))
    return {index: float(stop * container.streams[index].time_base) for index, stop in stops.items()}


def _frame_ticks(stream: Any) -> int:
    """What a picture of unknown length lasts; 0 for sound."""
    rate = (stream.average_rate or stream.guessed_rate) if stream.type == "video" else None
    return round(1 / (rate * stream.time_base)) if rate else 0


def _cut(source: Source, streams: Sequence[Any]) -> MediaError:
    """The error for a file whose index points behind its end, at the first packet that is not there."""
    size = source.path.stat().st_size
    missing = []
    for stream in streams:
        entry = next((e for e in stream.index_entries if e.pos + e.size > size), None)
        if entry is not None:
            missing.append((float(entry.timestamp * stream.time_base), stream.type))
    second, kind = min(missing, default=(None, "container"))
    found = "the file ends here, although its index goes on."
    return MediaError(str(source.path), kind, "truncated", found, "It was cut off: fetch it again.", second)


def _decode_pictures(source: Source, index: int) -> None:
    second = 0.0
    frames = source.frames(index, None)
    while True:
        with source.reporting("video", second):
            frame = next(frames, None)
        if frame is None:
            return
        second = second if frame.time is None else frame.time
        if frame.is_corrupt:
            raise source.error("video", "the frame is damaged.", second)
