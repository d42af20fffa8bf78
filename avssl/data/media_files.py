"""Find media files in folders by their extension, without opening them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from avssl.core.output_records import RECORDS

MEDIA_EXTENSIONS = frozenset(
    f".{suffix}"
    for suffix in (
        *("3g2", "3gp", "3gp2", "3gpp", "amv", "asf", "avi", "divx", "dv", "dvr-ms", "f4v", "flv", "m1v", "m2p", "m2t"),
        *("m2ts", "m2v", "m4v", "mk3d", "mkv", "mod", "mov", "mp4", "mp4v", "mpe", "mpeg", "mpg", "mpv", "mts", "mxf"),
        *("nut", "ogm", "ogv", "ogx", "qt", "rm", "rmvb", "tod", "tp", "trp", "ts", "vob", "vro", "webm", "wmv"),
        *("wtv", "xvid"),
    )
)
"""Extensions of video files, in lower case."""

IMAGE_EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
"""Extensions of still images, in lower case."""

AUDIO_EXTENSIONS = frozenset(
    {".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"}
)
"""Extensions of audio files, in lower case."""


def media_extensions(stream: Literal["both", "video", "audio"]) -> frozenset[str]:
    """Return the extensions of files that may hold what is needed: audio files where audio alone is."""
    return MEDIA_EXTENSIONS | AUDIO_EXTENSIONS if stream == "audio" else MEDIA_EXTENSIONS


def has_image_name(path: Path) -> bool:
    """Return True if the extension of a file is that of an image."""
    return path.suffix.lower() in IMAGE_EXTENSIONS


def walk_media(folder: Path | str, extensions: Collection[str] = MEDIA_EXTENSIONS) -> Iterator[Path]:
    """Yield the media files under a folder, relative to it, in a reproducible order.

    Links are followed, each folder once; names that start with a dot are skipped. ``extensions`` are in lower case,
    with their dot.
    """
    folder = Path(folder)
    for path in _walk(folder, unreadable=[]):
        if path.suffix.lower() in extensions and not _is_hidden(path.name):
            yield path.relative_to(folder)


@dataclass(frozen=True)
class FolderListing:
    """Every file under a folder, once."""

    media: list[Path]
    """The media files, relative to the folder."""
    others: dict[str, int]
    """Number of other files by extension, most frequent first; hidden files and folders count as ``"hidden"``."""
    unreadable: list[str]
    """Errors of the folders below it that cannot be listed."""

    def passed_over(self) -> str:
        """Return what is no media file by name, such as ``"3 .txt, 1 without extension"``."""
        return ", ".join(f"{count} {kind}" for kind, count in self.others.items())


def list_folder(folder: Path | str, extensions: Collection[str] = MEDIA_EXTENSIONS) -> FolderListing:
    """List the files under a folder; media files as :func:`walk_media` finds them."""
    folder = Path(folder)
    media: list[Path] = []
    others: Counter[str] = Counter()
    unreadable: list[str] = []
    for path in _walk(folder, unreadable):
        if _is_hidden(path.name):
            others["hidden"] += 1
        elif path.suffix.lower() in extensions:
            media.append(path.relative_to(folder))
        else:
            others[path.suffix.lower() or "without extension"] += 1
    return FolderListing(media, dict(others.most_common()), unreadable)


def _walk(folder: Path, unreadable: list[str]) -> Iterator[Path]:
    """Yield all files, and hidden folders instead of what is in them; collect the errors of unreadable folders."""
    seen = set()
    for here, folders, names in os.walk(folder, followlinks=True, onerror=lambda error: unreadable.append(str(error))):
        real = os.path.realpath(here)
        if real in seen:  # a link to a folder above, or a second link to this one
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if name != RECORDS]  # avssl's own
        yield from (Path(here, name) for name in sorted([*names, *filter(_is_hidden, folders)]))
        folders[:] = sorted(name for name in folders if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".")
