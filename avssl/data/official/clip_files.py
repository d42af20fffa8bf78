"""Find the file of a clip by the name that an annotation file gives it.

Downloaders name the same clip in several ways. :meth:`ClipFiles.named` finds official file names in
any folder and with any extension; :meth:`ClipFiles.segment` finds segments of YouTube videos
whatever the form of their name (:data:`SEGMENT_FORMS`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from avssl.core.manifest import ManifestError
from avssl.core.names import name_to_text
from avssl.data.media_files import MEDIA_EXTENSIONS, walk_media

SEGMENT_FORMS = (
    "ID_START or ID_START_STOP, in seconds with or without leading zeros or decimals, or in milliseconds; or ID "
    'alone; each with or without a "Y" before it, in any folder'
)
"""Names, without extension, of segments of YouTube videos."""

_SEGMENT = re.compile(
    r"Y?(?P<id>[A-Za-z0-9_-]{11})(?:[_-](?P<start>\d+(?:\.\d+)?)(?:[_-]\d+(?:\.\d+)?)?)?", flags=re.ASCII
)


@dataclass(frozen=True, slots=True)
class Match:
    """The file of a clip, or why there is none."""

    path: str | None
    """Relative to the root."""
    looked_for: str
    """A name the file could have."""
    reason: str = "not found"
    """Reason why there is no file."""
    whole: bool = False
    """True if the name does not tell a segment: a clip that was cut out, or a whole video."""


class ClipFiles:
    """The media files under a folder.

    Args:
        root: The folder.
        extensions: Extensions of the files, in lower case, with their dot.

    Raises:
        ManifestError: If there is no such folder.
    """

    def __init__(self, root: Path, extensions: Collection[str] = MEDIA_EXTENSIONS) -> None:
        if not root.is_dir():
            raise ManifestError(f"{root}: no such folder.")
        paths = (name_to_text(path.as_posix()) for path in walk_media(root, extensions))
        # Replacements of corrupt files, as Kinetics-400 offers, come first; then by name.
        order = sorted((not _is_replacement(path), path) for path in paths)
        self.paths = dict.fromkeys(path for _, path in order)
        """Paths relative to the root, in the order of preference, as an ordered set."""

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        by_stem = defaultdict(list)
        for path in self.paths:
            by_stem[PurePosixPath(path).stem].append(path)
        return by_stem

    @cached_property
    def _by_video(self) -> dict[str, list[tuple[str | None, str]]]:
        """YouTube id → (start as written in the name, or None; path)."""
        by_video = defaultdict(list)
        for path in self.paths:
            if parts := _SEGMENT.fullmatch(PurePosixPath(path).stem):
                by_video[parts["id"]].append((parts["start"], path))
        return by_video

    def exact(self, path: str) -> Match:
        """Find a path relative to the root."""
        return Match(path if path in self.paths else None, path)

    def named(self, name: str, *, same_folder: bool = False) -> Match:
        """Find a file name, with or without extension and folders: ``Archery/v_Archery_g01_c01.avi``.

        Its folder decides between files of the same name (spaces and underscores count as
        equal), and must match with ``same_folder``.
        """
        wanted = PurePosixPath(name)
        stem = wanted.stem if wanted.suffix.lower() in _KNOWN_EXTENSIONS else wanted.name
        found = self._by_stem.get(stem, [])
        folder = _folder_name(wanted)
        alike = [path for path in found if _folder_name(PurePosixPath(path)) == folder] if folder else found
        if alike:
            return Match(alike[0], name)
        if same_folder:
            return Match(None, name)
        if len(found) > 1:
            return Match(None, name, f"{len(found)} files have this name, none of them in a folder {folder!r}")
        return Match(found[0] if found else None, name)

    def segment(self, video_id: str, start_seconds: float) -> Match:
        """Find the segment of a YouTube video that starts at a second."""
        looked_for = f"{video_id}_{int(start_seconds):06d}.mp4"
        found = self._by_video.get(video_id, [])
        for start, path in found:
            if start is not None and _is_start(start, start_seconds):
                return Match(path, looked_for)
        for start, path in found:
            if start is None:
                return Match(path, looked_for, whole=True)
        return Match(None, looked_for, f"only another second of this video: {found[0][1]}" if found else "not found")


_KNOWN_EXTENSIONS = MEDIA_EXTENSIONS | {".wav", ".flac", ".jpg", ".png"}


def _is_start(text: str, seconds: float) -> bool:
    """Return True if a name means this second: 30, 000030, 30.000, or 30000 (milliseconds)."""
    value = float(text)
    if value in (seconds, int(seconds)):
        return True
    return text.isdigit() and not text.startswith("0") and value == round(seconds * 1000)


def _folder_name(path: PurePosixPath) -> str:
    return path.parent.name.replace(" ", "_")


def _is_replacement(path: str) -> bool:
    return any(part.startswith("replacement") for part in path.split("/")[:-1])
