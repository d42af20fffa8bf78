"""Check whether one media file is usable for training, and if not, why.

Nothing here protects from a decoder that hangs or crashes: :mod:`avssl.data.health.killable`
runs this in processes that can be killed.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from avssl.core.errors import InputError
from avssl.core.ranges import Positive, Seconds, SecondsOrZero, checked
from avssl.data.content import file_hash
from avssl.data.health.content import check_content
from avssl.data.health.everywhere import decode_everywhere
from avssl.data.health.row_faults import RowFaults
from avssl.data.health.segments import LeftOut, Segments, Span, common_span, judge_rows, long_parts, split, without
from avssl.media import MediaError, MediaInfo, MediaReader, open_media
from avssl.media.backends import BackendName
from avssl.media.limits import MediaLimits
from avssl.media.pyav.packets import Packets, read_packets
from avssl.media.pyav.stream_ends import CUT_SECONDS, StreamEnds, measure_ends

Depth = Literal["quick", "normal", "full"]
Stream = Literal["video", "audio"]
_STREAMS: tuple[Stream, ...] = ("video", "audio")

PROMISES: dict[Depth, str] = {
    "quick": "its header and last packets are there and one frame decodes; any other part may be damaged",
    "normal": "both ends decode, something moves and is audible; a part between may be damaged (depth full finds that)",
    "full": "all frames and all audio of its rows decode, from every keyframe and with the reader that trains on them",
}
"""Meaning of ``ok`` at each depth."""

MIN_SECONDS = 1.0
"""Default of the shortest usable file: half of a default clip."""

_SECONDS_PER_GIB: dict[Depth, float] = {"quick": 120.0, "normal": 120.0, "full": 1800.0}  # the disk; the decoder
_TIMEOUT_SECONDS: dict[Depth, float] = {"quick": 60.0, "normal": 60.0, "full": 1800.0}


@checked
@dataclass(frozen=True)
class HealthSettings:
    """Depth and limits of the check.

    Raises:
        ValueError: If a limit is not positive or ``depth`` is unknown.
    """

    depth: Depth = "normal"
    """"quick": header only, plus a check that the last packets exist; decodes one frame. "normal": also decodes both
    ends and samples between them, to find still video and silence. "full": decodes everything, as training does."""
    backend: BackendName = "auto"
    """Decoder of media files; "auto" is the fastest that loads."""
    min_seconds: SecondsOrZero = MIN_SECONDS
    """Shortest time in which the needed streams play together, in seconds."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    """Limits on a file; a manifest stores them for training."""
    timeout_seconds: Seconds | None = None
    """Time limit per file, in seconds; None: 60 s and two minutes per GiB of the file; half an hour of
    each at depth "full"."""
    memory_gib: Positive = 4.0
    """Memory limit per process beyond what it starts with, in GiB."""
    stream: Literal["both", "video", "audio"] = "both"
    """Streams that are needed. With `video` or `audio` alone files may lack the other, which is not checked; with
    `audio`, audio files are listed too."""

    def __post_init__(self) -> None:
        if self.depth not in _TIMEOUT_SECONDS:
            raise InputError(f"depth ({self.depth!r}) must be one of {list(_TIMEOUT_SECONDS)}.")
        if self.stream not in ("both", "video", "audio"):
            raise InputError(f"stream ({self.stream!r}) must be both, video or audio.")

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The needed streams."""
        return _STREAMS if self.stream == "both" else (self.stream,)

    @property
    def limit_seconds(self) -> float:
        """The time limit of a small file, resolved."""
        return _TIMEOUT_SECONDS[self.depth] if self.timeout_seconds is None else self.timeout_seconds

    def limit_of(self, path: str) -> float:
        """Return the time limit of a file: all packets of a long one are read."""
        if self.timeout_seconds is not None:
            return self.timeout_seconds
        try:
            return self.limit_seconds + os.stat(path).st_size / 2**30 * _SECONDS_PER_GIB[self.depth]
        except OSError:
            return self.limit_seconds


@dataclass(frozen=True)
class HealthReport:
    """The result of checking one file."""

    info: MediaInfo | None
    """Its header, with stops moved to the end of its packets, and none for a stream that is not needed; None if it
    could not be read."""
    error: MediaError | None = None
    """Reason why it is unusable; None for a healthy file."""
    spans: tuple[Span, ...] = ()
    """Usable time: the time with all needed streams, for a long file without the rows that have a fault."""
    left_out: tuple[LeftOut, ...] = ()
    """Time of a long file that gives no row."""
    num_bytes: int = 0
    """Size of a healthy file."""
    content_hash: str = ""
    """Hash of the content of a healthy file (:func:`avssl.data.content.file_hash`)."""
    notes: tuple[str, ...] = ()
    """Remarks on a usable file, as sentences."""

    @property
    def status(self) -> str:
        """``"ok"`` or the error's reason."""
        return "ok" if self.error is None else self.error.reason

    def is_cut(self, segments: Segments) -> bool:
        """Return True if the file is long, so that its spans are cut into rows."""
        info = self.info
        return info is not None and (info.has_video or info.has_audio) and segments.are_cut(info)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the file's name."""
        e = self.error
        error = None if e is None else [e.stream, e.reason, e.found, e.advice, e.second]
        return {
            "info": None if self.info is None else asdict(self.info) | {"path": ""},
            "error": error,
            "spans": self.spans,
            "left_out": [list(asdict(part).values()) for part in self.left_out],
            "content": [self.num_bytes, self.content_hash],
            "notes": self.notes,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], path: str) -> HealthReport:
        """Restore the report of the file ``path`` from the values of :meth:`to_dict`.

        Raises:
            TypeError, KeyError: If the values are not those of a report.
        """
        info, error = values["info"], values["error"]
        return cls(
            None if info is None else MediaInfo(**(info | {"path": path})),
            None if error is None else MediaError(path, *error),
            tuple((float(start), float(stop)) for start, stop in values["spans"]),
            tuple(LeftOut(*part) for part in values["left_out"]),
            int(values["content"][0]),
            str(values["content"][1]),
            tuple(map(str, values["notes"])),
        )


def probe_file(path: str, settings: HealthSettings | None = None, segments: Segments | None = None) -> HealthReport:
    """Check one file. Any fault of the file becomes a reason in the report, not an exception.

    Args:
        path: The file.
        settings: Depth and limits; default: those of :class:`HealthSettings`.
        segments: Rows of a long file, which are judged one by one; default: those of :class:`Segments`.
    """
    settings, segments = settings or HealthSettings(), segments or Segments()
    info = None
    try:
        with open_media(path, settings.backend, limits=settings.limits) as reader:
            info = _usable_part(path, reader.info, settings)
            if settings.depth != "quick":
                info = check_content(reader, info, everywhere=settings.depth == "full" or _holds_floats(info))
                _check_length(info, settings)  # an end that cannot be decoded is cut off
            # Packets keep the clocks of their recordings.
            packets = None if info.clock_jumps else read_packets(path, limits=settings.limits)
            if settings.depth == "full":
                decode_everywhere(partial(open_media, path, settings.backend, limits=settings.limits), info, packets)
            spans, left_out = _usable_time(reader, info, packets, settings, segments)
            notes = [*reader.notes, *_notes(info)]
    except MediaError as error:
        return HealthReport(info, _out_of_memory(path) if isinstance(error.__cause__, MemoryError) else error)
    except MemoryError:
        return HealthReport(info, _out_of_memory(path))
    return HealthReport(
        info,
        spans=tuple(spans),
        left_out=tuple(left_out),
        num_bytes=os.stat(path).st_size,
        content_hash=file_hash(Path(path)),
        notes=tuple(notes),
    )


def _usable_time(
    reader: MediaReader, info: MediaInfo, packets: Packets | None, settings: HealthSettings, segments: Segments
) -> tuple[list[Span], list[LeftOut]]:
    """Return the usable spans of a file, and the parts that give no row."""
    span, jumps = common_span(info), [jump for jump in info.clock_jumps if jump > common_span(info)[0]]
    holes = [] if packets is None else packets.holes(*span, video=info.has_video, audio=info.has_audio)
    recorded = split(without(span, holes), jumps)
    if not segments.are_cut(info):
        usable, left_out = long_parts(recorded, settings.min_seconds)
    else:
        fault = RowFaults(reader, info, packets, decode=settings.depth != "quick")
        usable, left_out = judge_rows(recorded, segments, fault)
    left_out = sorted([*left_out, *(LeftOut(*hole, "empty") for hole in holes)], key=lambda part: part.start_seconds)
    if not usable:
        worst = max(left_out, key=lambda part: part.seconds)
        found = f"none of its rows can be used; most of it is {worst.reason}."
        raise MediaError(info.path, "container", worst.reason, found, "Leave the file out.", worst.start_seconds)
    return usable, left_out


def _notes(info: MediaInfo) -> list[str]:
    """Return remarks on a file that holds several recordings."""
    notes = []
    if info.clock_jumps:
        times = ", ".join(f"{jump:.1f}" for jump in info.clock_jumps)
        notes.append(f"its clock restarts at {times} s: {len(info.clock_jumps) + 1} recordings, cut into rows there.")
    return [*notes, info.unread] if info.unread else notes


def _usable_part(path: str, info: MediaInfo, settings: HealthSettings) -> MediaInfo:
    """Return the header of the needed streams, after checking that they are as long as it declares."""
    if "video" in settings.streams and not info.has_video:
        raise MediaError(path, "video", "no_video", "there is no video stream.", "Leave the file out.")
    if "audio" in settings.streams and not info.has_audio:
        raise MediaError(path, "audio", "no_audio", "there is no audio stream.", "Leave the file out.")
    unneeded: dict[str, Any] = {
        f"{stream}_{end}_seconds": None
        for stream in _STREAMS
        if stream not in settings.streams
        for end in ("start", "stop")
    }
    info = replace(info, **unneeded)
    ends = measure_ends(path, limits=settings.limits, decode=settings.depth == "full")
    info = _shortened(info, ends)
    _check_length(info, settings)
    return info


def _check_length(info: MediaInfo, settings: HealthSettings) -> None:
    """Raise MediaError if the needed streams do not play together for long enough."""
    path, (start, stop) = info.path, common_span(info)
    play = "video and audio play together" if settings.stream == "both" else f"the {settings.stream} plays"
    if stop <= start:
        found = "video and audio never play at the same time."
        raise MediaError(path, "container", "out_of_range", found, "Leave the file out.")
    if stop - start < settings.min_seconds - 1e-3:
        found = f"{play} for {stop - start:.3f} s, less than {settings.min_seconds:g} s."
        raise MediaError(path, "container", "too_short", found, "Leave the file out, or lower min_seconds.")


def _shortened(info: MediaInfo, ends: StreamEnds) -> MediaInfo:
    """Return the header with each stop no later than the stream's last packet; raise MediaError if much is missing."""
    stops = {}
    for stream in _STREAMS:
        name = f"{stream}_stop_seconds"
        start, declared, found = getattr(info, f"{stream}_start_seconds"), getattr(info, name), getattr(ends, name)
        if start is None:
            continue
        found = start if found is None else found
        if found < declared - CUT_SECONDS:
            text = f"the {stream} ends at {found:.3f} s although the container says {declared:.3f} s."
            raise MediaError(info.path, stream, "truncated", text, "The file was cut off: fetch it again.", found)
        stops[name] = max(start, min(declared, found))
    return replace(info, **stops)


def _holds_floats(info: MediaInfo) -> bool:
    """Return True if any number may stand in the audio, such as NaN; reading all of it needs no decoding."""
    return str(info.audio_codec).startswith("pcm_f")


def _out_of_memory(path: str) -> MediaError:
    found = "decoding it needs more memory than a process may take."
    return MediaError(path, "container", "too_large", found, "Scale the file down, or raise memory_gib.")
