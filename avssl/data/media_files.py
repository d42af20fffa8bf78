"""Find media files in folders by their extension, without opening them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

MEDIA_EXTENSIONS = frozenset(
    f".{suffix}"
    for suffix in (
        *("3gp", "asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "ogv"),
        *("ts", "vob", "webm", "wmv"),
    )
)
"""Extensions of video files, in lower case."""

IMAGE_EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
"""Extensions of still images, in lower case."""

AUDIO_EXTENSIONS = frozenset(
    {".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"}
)
"""Extensions of audio files, in lower case."""


def has_image_name(path: Path) -> bool:
    """Return True if the extension of a file is that of an image."""
    return path.suffix.lower() in IMAGE_EXTENSIONS


def walk_media(folder: Path | str, extensions: Collection[str] = MEDIA_EXTENSIONS) -> Iterator[Path]:
    """Yield the media files under a folder, relative to it, in a reproducible order.

    Links are followed, each folder once; names that start with a dot are skipped. ``extensions`` are in lower case,
    with their dot.
    """
    folder, seen = Path(folder), set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link to a folder above, or a second link to this one
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in extensions and not name.startswith("."):
                yield Path(here, name).relative_to(folder)
