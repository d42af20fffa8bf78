"""Names of clips, so that annotation files, lists, downloads and manifests can be compared.

The same clip of a YouTube video is ``ID_000030``, ``ID_30_40``, ``ID_30000_40000.mp4`` or ``/data/ID_30.000.wav``.
:func:`clip_key` returns one key for all of them.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from avssl.data.media_files import AUDIO_EXTENSIONS, IMAGE_EXTENSIONS, MEDIA_EXTENSIONS

CLIP_EXTENSIONS = MEDIA_EXTENSIONS | IMAGE_EXTENSIONS | AUDIO_EXTENSIONS
"""Extensions of the files that clips are made of, in lower case."""

SEGMENT_FORMS = (
    "ID_START or ID_START_STOP, in seconds with or without leading zeros or decimals, or in milliseconds; or ID "
    'alone; each with or without a "Y" before it, in any folder'
)
"""Names, without extension, of segments of YouTube videos."""

SEGMENT = re.compile(
    r"Y?(?P<id>[A-Za-z0-9_-]{11})(?:[_-](?P<start>\d+(?:\.\d+)?)(?:[_-](?P<stop>\d+(?:\.\d+)?))?)?", flags=re.ASCII
)
"""Such a name: id, start and stop as written."""

_SHORTEST_MILLISECONDS = 1000.0
"""Segments are never so many seconds long, so that a longer one is given in milliseconds."""


def stem(name: str) -> str:
    """Return a name without its folders, and without the extension of a media file."""
    path = PurePosixPath(name.strip())
    return path.stem if path.suffix.lower() in CLIP_EXTENSIONS else path.name


def clip_key(name: str) -> str:
    """Return the key of a clip: ``ID@30`` for a segment of a YouTube video, ``ID@`` for a whole one, else the name.

    Args:
        name: Name in an annotation file, in a list or of a file, with or without folders and extension.
    """
    text = stem(name)
    number = re.fullmatch(r"(\d+)(\.0+)?", text)
    if number:  # of a Flickr video; some copies of its lists hold it as a decimal number
        return number[1]
    parts = SEGMENT.fullmatch(text)
    if parts is None:
        return text
    if parts["start"] is None:
        return f"{parts['id']}@"
    return segment_key(parts["id"], seconds_of(parts["start"], parts["stop"]))


def segment_key(video_id: str, start_seconds: float) -> str:
    """Return the key of a segment; fractions of a second are dropped, as most names have none."""
    return f"{video_id}@{int(start_seconds)}"


def video_of(key: str) -> str | None:
    """Return the YouTube id of a key, or None."""
    video, at, _ = key.partition("@")
    return video if at else None


def seconds_of(start: str, stop: str | None) -> float:
    """Return the second at which a segment with this start and stop in its name begins."""
    is_milliseconds = stop is not None and float(stop) - float(start) >= _SHORTEST_MILLISECONDS
    return float(start) / 1000 if is_milliseconds else float(start)
