"""Find where the streams of a file really end, whatever its header declares.

A file that was cut off often opens and plays, as its header comes first. So the packets at its end are read, without
decoding them, and on request every frame is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from avssl.media.errors import MediaError
from avssl.media.limits import MediaLimits
from avssl.media.pyav.declared_size import missing_bytes
from avssl.media.pyav.parts import parts_of
from avssl.media.pyav.recordings import ByteRange
from avssl.media.pyav.source import Source

_TAIL_SECONDS = 3.0
_SLACK_SECONDS = 0.1  # if the tail ends this much before the declared end, all packets are read
_DECLARE_LENGTH = ("matroska,webm", "flv")  # containers that declare the length of the file, not of each stream

CUT_SECONDS = 0.5
"""Headers round. If this much or more is missing at the end, the file was cut off."""


@dataclass(frozen=True)
class StreamEnds:
    """Presentation times at which the last whole packets end; None for a stream that is missing or empty."""

    video_stop_seconds: float | None
    """End of the video stream."""
    audio_stop_seconds: float | None
    """End of the audio stream."""


def measure_ends(path: Path | str, *, limits: MediaLimits | None = None, decode: bool = False) -> StreamEnds:
    """Measure where the video and audio streams end.

    Reads the last seconds of the file, and all of it if these end before the declared end.

    Args:
        path: A file that :func:`avssl.media.open_media` opens.
        limits: Limits on the file; default: those of :class:`~avssl.media.MediaLimits`.
        decode: Decode every frame of the file too.

    Raises:
        MediaError: If the file is shorter than its index or header declares (reason ``"truncated"``, with the
            second at which it ends), or a frame cannot be decoded.
    """
    path, limits = Path(path), limits or MediaLimits()
    parts = parts_of(path, limits)
    if parts is None:
        return _measure(path, limits, decode, None)
    for part in parts.parts:
        try:
            ends = _measure(path, limits, decode, part.bytes)
        except MediaError as error:
            second = part.at(error.second)
            raise MediaError(error.path, error.stream, error.reason, error.found, error.advice, second) from error
    return StreamEnds(part.at(ends.video_stop_seconds), part.at(ends.audio_stop_seconds))


def _measure(path: Path, limits: MediaLimits, decode: bool, part: ByteRange | None) -> StreamEnds:
    """Measure the ends of a file, or of one recording in it on its own clock."""
    with closing(Source(path, limits, part)) as source:
        streams = [source.best("video"), source.best("audio")]
        present = [stream for stream in streams if stream is not None]
        if source.is_cut():
            raise _cut_error(source, present)
        declared_stop = _declared_stop(source)
        kept = [None if stream is None else stream.index for stream in streams]
        indices = [stream.index for stream in present]  # before the spans: measuring them may void the streams
        declared = dict(zip(indices, (stop for _, stop in source.spans(present)), strict=True))
        stops = _packet_stops(source, list(declared), min(declared.values(), default=0.0) - _TAIL_SECONDS)
        repeats = source.repeats_at_end
    if any(stops.get(index, -math.inf) < stop - _SLACK_SECONDS for index, stop in declared.items()):
        with closing(Source(path, limits, part)) as source:
            stops = _packet_stops(source, list(declared), None)
    if repeats and kept[0] in stops:
        stops[kept[0]] = max(stops[kept[0]], declared[kept[0]])
    _check_complete(path, stops, declared_stop)
    if decode and kept[0] is not None:
        with closing(Source(path, limits, part)) as source:
            _decode_all(source, kept[0])
    return StreamEnds(*(None if index is None else stops.get(index) for index in kept))


def _declared_stop(source: Source) -> float:
    """Return the end of the file by its header, in the containers that declare it for the file as a whole."""
    least = source.least_stop
    return -math.inf if least is None or source.container.format.name not in _DECLARE_LENGTH else least


def _check_complete(path: Path, stops: dict[int, float], declared_stop: float) -> None:
    """Raise if the file is shorter than its header declares, in bytes or in seconds."""
    last = max(stops.values(), default=0.0)
    found = ""
    if missing := missing_bytes(path):
        found = f"{missing} bytes are missing at its end, by the sizes that it declares."
    elif last < declared_stop - CUT_SECONDS:
        found = f"the file ends at {last:.3f} s although the container says {declared_stop:.3f} s."
    if found:
        raise MediaError(str(path), "container", "truncated", found, "It was cut off: fetch it again.", last)


def _packet_stops(source: Source, indices: list[int], from_seconds: float | None) -> dict[int, float]:
    """Return stream index → latest end of its packets from a time on, or of all packets."""
    container = source.container
    if from_seconds is not None:
        # A container that cannot seek is read from the start.
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
    """Return the assumed length of a frame of unknown length; 0 for audio."""
    rate = (stream.average_rate or stream.guessed_rate) if stream.type == "video" else None
    return round(1 / (rate * stream.time_base)) if rate else 0


def _cut_error(source: Source, streams: Sequence[Any]) -> MediaError:
    """Return the error for a file whose index points past its end, at the first missing packet."""
    size = source.num_bytes
    missing = []
    for stream in streams:
        entry = next((e for e in stream.index_entries if e.pos + e.size > size), None)
        if entry is not None:
            missing.append((float(entry.timestamp * stream.time_base), stream.type))
    second, kind = min(missing, default=(None, "container"))
    found = "the file ends here, although its index continues."
    return MediaError(str(source.path), kind, "truncated", found, "It was cut off: fetch it again.", second)


def _decode_all(source: Source, index: int) -> None:
    second = 0.0
    frames = source.frames(index, None)
    while True:
        source.deadline.start()
        with source.reporting("video", second):
            frame = next(frames, None)
        if frame is None:
            return
        second = second if frame.time is None else frame.time
        if frame.is_corrupt:
            raise source.error("video", "the frame is damaged.", second)
