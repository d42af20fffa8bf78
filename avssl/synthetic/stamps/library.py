"""All photographs, recordings and backdrops of the named packages, in memory."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from avssl.core.errors import InputError
from avssl.core.progress import Bar
from avssl.core.user_files import FileError, read_bytes
from avssl.media import MediaError, MediaLimits
from avssl.synthetic.stamps.cutouts import (
    Backdrop,
    Photograph,
    UnusableError,
    read_backdrop,
    read_photograph,
)
from avssl.synthetic.stamps.kinds import COPIES, kind_of, normalized
from avssl.synthetic.stamps.packages import ADVICE, DEBIAN_FOLDERS, PackageFile, find_files
from avssl.synthetic.stamps.recordings import Recording, read_recording

_log = logging.getLogger(__name__)
_MAX_BYTES = 2**26
"""Largest image or sound; those of the packages have 4 MB at most."""

_Item = TypeVar("_Item", Photograph, Backdrop, Recording)


@dataclass(frozen=True, eq=False)
class StampLibrary:
    """Photographs, recordings and backdrops; those of the folder that is named first come first."""

    photographs: tuple[Photograph, ...]
    recordings: tuple[Recording, ...]
    """Recordings of classes that have a photograph."""
    backdrops: tuple[Backdrop, ...]
    left_out: dict[str, int]
    """Number of files that are not used by reason, most frequent first."""

    @property
    def sounding_kinds(self) -> tuple[str, ...]:
        """Classes that have a photograph and a recording, in alphabetical order."""
        return tuple(sorted({recording.kind for recording in self.recordings}))

    def summary(self) -> str:
        """Return the counts as one sentence, and the files left out."""
        kinds = set(self.sounding_kinds)
        sounding = sum(photograph.kind in kinds for photograph in self.photographs)
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        return (
            f"{sounding} photographs and {len(self.recordings)} recordings of {len(kinds)} classes, "
            f"{len(self.photographs) - sounding} silent photographs, {len(self.backdrops)} backdrops; "
            f"left out: {reasons or 'nothing'}"
        )


def load_library(
    folders: Sequence[Path | str] | None = None, *, limits: MediaLimits | None = None, progress: bool = True
) -> StampLibrary:
    """Read the packages.

    Files that are damaged, over a limit, silent or no photographs are left out, and counted.

    Args:
        folders: Folders of Tux Paint stamps or of GCompris; None: those of :data:`DEBIAN_FOLDERS` that exist.
        limits: Limits on images and audio; default: those of :class:`~avssl.media.MediaLimits`.
        progress: Show a progress bar.

    Raises:
        InputError: If a folder is missing or a resource file damaged, or there are no two classes with a photograph and
            a recording.
    """
    named = package_folders(folders)
    left_out: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="avssl-stamps-") as scratch:
        files: list[PackageFile] = []
        for number, folder in enumerate(named):
            place = Path(scratch, str(number))
            place.mkdir()
            files += find_files(folder, place, left_out)
        reader = _Reader(_without_copies(files, left_out), limits, left_out, progress)
        library = reader.library()
    if len(library.sounding_kinds) < 2:
        raise InputError(
            f"{', '.join(map(str, named))}: a scene needs two classes with a photograph and a recording, but there are "
            f"{len(library.sounding_kinds)} ({library.summary()}). {ADVICE}"
        )
    return library


def package_folders(folders: Sequence[Path | str] | None) -> list[Path]:
    """Return the named folders, or those of :data:`DEBIAN_FOLDERS` that exist.

    Raises:
        InputError: If a named folder does not exist, or none is named and none exists.
    """
    found = [Path(folder) for folder in folders or DEBIAN_FOLDERS]
    if missing := [str(folder) for folder in found if folders and not folder.is_dir()]:
        raise InputError(f"{missing[0]}: no such folder of stamps. {ADVICE}")
    found = [folder for folder in found if folder.is_dir()]
    if not found:
        raise InputError(f"there are no stamps in {' or '.join(DEBIAN_FOLDERS)}. {ADVICE}")
    return found


def _without_copies(files: Sequence[PackageFile], left_out: Counter[str]) -> list[PackageFile]:
    """Return the files without those of a content or a name that came before."""
    seen: set[str] = set()
    kept = []
    for file in files:
        try:
            content = hashlib.sha256(read_bytes(file.path, _MAX_BYTES)).hexdigest()
        except (FileError, OSError) as error:
            _log.warning("%s is left out: %s", file.name, error)
            left_out["unreadable"] += 1
            continue
        is_copy = file.role == "sound" and normalized(file.stem) in COPIES
        if is_copy or content in seen or file.name in seen:
            left_out["copy"] += 1
        else:
            kept.append(file)
        seen |= {content, file.name}
    return kept


class _Reader:
    """Reads files, and counts those that cannot be used."""

    def __init__(
        self, files: Sequence[PackageFile], limits: MediaLimits | None, left_out: Counter[str], progress: bool
    ) -> None:
        self.limits, self.left_out = limits, left_out
        self.by_role: defaultdict[str, list[PackageFile]] = defaultdict(list)
        for file in files:
            self.by_role[file.role].append(file)
        self.bar = Bar(total=len(files), desc="read stamps", unit="file", show=progress)

    def library(self) -> StampLibrary:
        with self.bar:
            photographs = self._all("object", Photograph)
            kinds = {photograph.kind for photograph in photographs}
            recordings = self._all("sound", Recording, kinds)
            backdrops = self._all("backdrop", Backdrop)
        return StampLibrary(tuple(photographs), tuple(recordings), tuple(backdrops), dict(self.left_out.most_common()))

    def _all(self, role: str, item_type: type[_Item], kinds: set[str] | None = None) -> list[_Item]:
        found = []
        for file in self.by_role[role]:
            self.bar.update()
            kind = kind_of(file.stem)
            if not kind or (kinds is not None and kind not in kinds):
                self.left_out["sound without a photograph" if role == "sound" else "numbered file"] += 1
                continue
            try:
                item = self._read(file, kind)
            except UnusableError as error:
                self.left_out[str(error)] += 1
            except MediaError as error:
                _log.warning("%s is left out: %s", file.name, error)
                self.left_out[error.reason.replace("_", " ")] += 1
            else:
                assert isinstance(item, item_type)
                found.append(item)
        return found

    def _read(self, file: PackageFile, kind: str) -> Photograph | Backdrop | Recording:
        if file.role == "object":
            return read_photograph(file.path, file.name, kind, self.limits)
        if file.role == "sound":
            return read_recording(file.path, file.name, kind, self.limits)
        return read_backdrop(file.path, file.name, self.limits)
