"""Whether one media file can be learned from: ok, or one reason why not.

Nothing here protects from a decoder that hangs or crashes: :mod:`avssl.data.health.killable`
runs this in processes that can be ended.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from avssl.core.errors import InputError
from avssl.data.health.content import check_content
from avssl.media import MediaError, MediaInfo, open_media
from avssl.media.backends import BackendName
from avssl.media.info import MAX_DURATION_SECONDS, MAX_PIXELS
from avssl.media.pyav.stream_ends import CUT_SECONDS, StreamEnds, measure_ends

Depth = Literal["quick", "normal", "full"]

MIN_SECONDS = 1.0
"""Default of the shortest usable file. A clip takes 2 s by default: of a shorter file most would be made up."""

_TIMEOUT_SECONDS: dict[Depth, float] = {"quick": 60.0, "normal": 60.0, "full": 1800.0}


@dataclass(frozen=True)
class HealthSettings:
    """How files are looked at, and what is too much or too little.

    Raises:
        ValueError: If a limit is not positive or ``depth`` is unknown.
    """

    depth: Depth = "normal"
    """"quick": header, and the last packets against its word; nothing is decoded but one picture. "normal": also
    decodes the ends, and places between them, to find still pictures and silence. "full": decodes everything."""
    backend: BackendName = "auto"
    """Reader that decodes, as for :func:`avssl.media.open_media`."""
    min_seconds: float = MIN_SECONDS
    """Files with less time in which picture and sound both play are too short."""
    max_pixels: int = MAX_PIXELS
    """Largest width * height."""
    max_duration_seconds: float = MAX_DURATION_SECONDS
    """Longest file."""
    timeout_seconds: float | None = None
    """Longest time one file may take; None: 60 s, and half an hour at depth "full"."""
    memory_gib: float = 4.0
    """Address space one process may take beyond what it starts with."""

    def __post_init__(self) -> None:
        if self.depth not in _TIMEOUT_SECONDS:
            raise InputError(f"depth ({self.depth!r}) must be one of {list(_TIMEOUT_SECONDS)}.")
        for name in ("max_pixels", "max_duration_seconds", "timeout_seconds", "memory_gib"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} ({value}) must be greater than 0.")
        if not self.min_seconds >= 0:
            raise InputError(f"min_seconds ({self.min_seconds}) must not be negative.")

    @property
    def limit_seconds(self) -> float:
        """The time limit, resolved."""
        return _TIMEOUT_SECONDS[self.depth] if self.timeout_seconds is None else self.timeout_seconds


@dataclass(frozen=True)
class HealthReport:
    """What became of one file."""

    info: MediaInfo | None
    """Its header, its stops moved to where its packets end; None where it could not be read."""
    error: MediaError | None = None
    """Why it cannot be used; None for a healthy file."""

    @property
    def status(self) -> str:
        """``"ok"`` or the error's reason."""
        return "ok" if self.error is None else self.error.reason

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the file's name."""
        e = self.error
        error = None if e is None else [e.stream, e.reason, e.found, e.advice, e.second]
        return {"info": None if self.info is None else asdict(self.info) | {"path": ""}, "error": error}

    @classmethod
    def from_dict(cls, values: dict[str, Any], path: str) -> HealthReport:
        """The report of :meth:`to_dict` on the file ``path``.

        Raises:
            TypeError, KeyError: If the values are not those of a report.
        """
        info, error = values["info"], values["error"]
        return cls(
            None if info is None else MediaInfo(**(info | {"path": path})),
            None if error is None else MediaError(path, *error),
        )


def probe_file(path: str, settings: HealthSettings | None = None) -> HealthReport:
    """Looks at one file.

    Args:
        path: The file.
        settings: How; the defaults if None.

    Returns:
        The report. Whatever the file holds becomes a reason, never an exception.
    """
    settings = settings or HealthSettings()
    info = None
    try:
        with open_media(
            path,
            settings.backend,
            max_pixels=settings.max_pixels,
            max_duration_seconds=settings.max_duration_seconds,
        ) as reader:
            info = _usable_part(path, reader.info, settings)
            if settings.depth != "quick":
                info = check_content(reader, info, everywhere=settings.depth == "full")
    except MediaError as error:
        return HealthReport(info, _out_of_memory(path) if isinstance(error.__cause__, MemoryError) else error)
    except MemoryError:
        return HealthReport(info, _out_of_memory(path))
    return HealthReport(info)


def common_span(info: MediaInfo) -> tuple[float, float]:
    """(start, stop) of the seconds in which there is picture and sound; both tracks must be there."""
    starts = (info.video_start_seconds, info.audio_start_seconds)
    stops = (info.video_stop_seconds, info.audio_stop_seconds)
    return max(s for s in starts if s is not None), min(s for s in stops if s is not None)


def _usable_part(path: str, info: MediaInfo, settings: HealthSettings) -> MediaInfo:
    """The header, once both tracks are known to be as long as it says."""
    if not info.has_video:
        raise MediaError(path, "video", "no_video", "there is no video stream.", "Leave the file out.")
    if not info.has_audio:
        raise MediaError(path, "audio", "no_audio", "there is no audio stream.", "Leave the file out.")
    ends = measure_ends(path, max_pixels=settings.max_pixels, decode=settings.depth == "full")
    info = _shortened(info, ends)
    start, stop = common_span(info)
    if stop <= start:
        found = "picture and sound never play together."
        raise MediaError(path, "container", "out_of_range", found, "Leave the file out.")
    if stop - start < settings.min_seconds - 1e-3:
        found = f"picture and sound play together for {stop - start:.3f} s, less than {settings.min_seconds:g} s."
        raise MediaError(path, "container", "too_short", found, "Leave the file out, or lower min_seconds.")
    return info


def _shortened(info: MediaInfo, ends: StreamEnds) -> MediaInfo:
    """The header with each stop no later than the track's last packet.

    Raises:
        MediaError: If half a second or more is missing.
    """
    stops = {}
    for stream in ("video", "audio"):
        name = f"{stream}_stop_seconds"
        start, stated, found = getattr(info, f"{stream}_start_seconds"), getattr(info, name), getattr(ends, name)
        found = start if found is None else found
        if found < stated - CUT_SECONDS:
            text = f"the {'pictures end' if stream == 'video' else 'sound ends'} at {found:.3f} s although the "
            text += f"container says {stated:.3f} s."
            raise MediaError(info.path, stream, "truncated", text, "The file was cut off: fetch it again.", found)
        stops[name] = max(start, min(stated, found))
    return replace(info, **stops)


def _out_of_memory(path: str) -> MediaError:
    found = "decoding it needs more memory than a process may take."
    return MediaError(path, "container", "too_large", found, "Scale the file down, or raise memory_gib.")
