"""Lists of clips that papers publish: training subsets, test subsets, and pairs of an image with foreign audio.

Their formats vary, and :func:`read_list` reads all of them: an id in each line; an id, a comma and labels or numbers,
which are not read; a YouTube id, a comma and a start second; and tables whose first line names their columns, such as
``video,audio,label``. An id may be a path on the authors' machine, and have any extension.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avssl.core.manifest import ManifestError
from avssl.core.user_files import FileError, read_text
from avssl.data.official.clip_names import clip_key, segment_key, video_of

MAX_BYTES = 1 << 28
"""Largest list that is read; the longest that is published has 2 million lines of 12 characters."""

_ID_TITLES = ("video", "video_id", "youtube_id", "ytid", "id", "file", "filename", "file_name", "name", "image", "clip")
SILENT = ("non-sounding", "nonsounding", "silent")
"""Labels of pairs in which nothing that is visible sounds."""


@dataclass(frozen=True, slots=True)
class ListedClip:
    """One line of a list."""

    name: str
    """The id as written."""
    key: str
    """Its :func:`~avssl.data.official.clip_names.clip_key`."""
    audio_key: str | None = None
    """Key of the clip whose audio is heard, if the list has a column ``audio``."""
    label: str | None = None
    """Label, if the list has a column ``label``."""

    @property
    def is_silent(self) -> bool:
        """True if nothing that is visible sounds."""
        return self.label is not None and self.label.lower() in SILENT


@dataclass
class PublishedList:
    """A list of clips, and which of them were found in the official files."""

    path: Path
    split: str | None
    """Split that its clips become; None keeps the official one."""
    clips: Sequence[ListedClip]
    """Lines, each clip once."""
    num_repeated: int = 0
    """Lines that repeat another one."""
    known: set[str] = field(default_factory=set)
    """Keys that an official clip has claimed."""
    _by_key: Mapping[str, ListedClip] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._by_key = {clip.key: clip for clip in self.clips if not clip.is_silent}

    @property
    def keys(self) -> Mapping[str, ListedClip]:
        """The clips with audible sources, by their key."""
        return self._by_key

    @property
    def silent(self) -> list[ListedClip]:
        """The pairs in which nothing that is visible sounds."""
        return [clip for clip in self.clips if clip.is_silent]

    def claim(self, key: str) -> bool:
        """Return True if an official clip is on the list, and remember it; an id alone stands for the whole video."""
        for form in (key, f"{video_of(key)}@"):
            if form in self._by_key:
                self.known.add(form)
                return True
        return False

    def unknown(self) -> list[str]:
        """Return the names that no official clip has claimed."""
        return [clip.name for clip in self._by_key.values() if clip.key not in self.known]


def read_lists(named: Sequence[str], folders: Sequence[Path] = ()) -> list[PublishedList]:
    """Read lists that are named as FILE or SPLIT=FILE on the command line.

    Args:
        named: The lists; a relative one is also looked for in ``folders``.
        folders: Folders of official files.

    Raises:
        ManifestError: If one cannot be read as a list.
    """
    lists = []
    for text in named:
        split, equals, file = text.partition("=")
        if not equals or "/" in split:
            split, file = "", text
        path = next((place for place in (Path(file), *(folder / file for folder in folders)) if place.is_file()), None)
        if path is None:
            places = ", ".join(str(place) for place in (Path.cwd(), *folders))
            raise ManifestError(f"{file}: no such list here or in {places}. Name it as FILE or SPLIT=FILE.")
        lists.append(read_list(path, split or None))
    return lists


def read_list(path: Path, split: str | None = None) -> PublishedList:
    """Read a list.

    Raises:
        ManifestError: If it is no text, or a line has no id.
    """
    try:
        lines = read_text(path, MAX_BYTES).splitlines()
    except FileError as error:
        raise ManifestError(str(error)) from error
    if lines and lines[0].lstrip().startswith(("[", "{", "<")):
        raise ManifestError(f"{path}:1: JSON or XML, but a list has an id in each line.")
    clips: dict[tuple[str, str | None], ListedClip] = {}
    columns: list[str] | None = None
    number_of_lines = 0
    for number, cells in enumerate(csv.reader(lines, skipinitialspace=True), 1):
        cells = [cell.strip() for cell in cells]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if columns is None:
            titles = [cell.lower() for cell in cells]
            columns = titles if titles[0] in _ID_TITLES else []
            if columns:
                continue
        if not cells[0]:
            raise ManifestError(f"{path}:{number}: no id in the first column.")
        clip = _clip(cells, columns)
        number_of_lines += 1
        clips.setdefault((clip.key, clip.audio_key if clip.is_silent else None), clip)
    if not clips:
        raise ManifestError(f"{path}: no ids.")
    return PublishedList(path, split, list(clips.values()), number_of_lines - len(clips))


def _clip(cells: list[str], columns: list[str]) -> ListedClip:
    key = clip_key(cells[0])
    if key.endswith("@") and len(cells) > 1 and re.fullmatch(r"\d+(\.\d+)?", cells[1]):
        key = segment_key(key[:-1], float(cells[1]))  # the start has a column of its own
    named = dict(zip(columns, cells, strict=False))
    audio = named.get("audio")
    return ListedClip(cells[0], key, clip_key(audio) if audio else None, named.get("label"))
