"""Classes from the names of folders: ``FOLDER/dog/1.mp4``, or ``FOLDER/train/dog/1.mp4`` with folders for splits.

The class of a file is the folder directly below FOLDER, or below a split folder, as in torchvision's ``ImageFolder``.
Files in deeper folders belong to the same class, and files directly in FOLDER to none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from avssl.core.manifest import ManifestError
from avssl.core.names import name_to_text
from avssl.data.media_files import media_extensions, walk_media

SPLIT_OF_FOLDER = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Splits by the name of their folder, in lower case."""


@dataclass(frozen=True)
class ClassFolders:
    """The class folders of a folder."""

    folder: Path
    has_splits: bool
    """True if the folders directly below are splits, and those below them classes."""
    num_files: dict[str, int]
    """Number of media files of each class, by name in sorted order; 0 for an empty class folder."""
    unlabeled: list[Path]
    """Media files directly in the folder, which have no class."""
    deep: list[Path]
    """Media files in folders below their class folder."""

    def label(self, path: Path) -> str | None:
        """Return the class of a file, whose path is relative to the folder; None for a file directly in it."""
        depth = 1 if self.has_splits else 0
        return name_to_text(path.parts[depth]) if len(path.parts) > depth + 1 else None

    def split(self, path: Path) -> str | None:
        """Return the split of a file by its folder; None where the folders are no splits."""
        return SPLIT_OF_FOLDER[path.parts[0].lower()] if self.has_splits and len(path.parts) > 1 else None

    def remarks(self) -> list[str]:
        """Return sentences on files and folders that a user may have meant otherwise."""
        found = []
        if self.unlabeled:
            found.append(
                f"{len(self.unlabeled)} files lie directly in {self.folder} and have no class, the first is "
                f"{self.unlabeled[0]}: put them into class folders to use them."
            )
        if self.deep:
            first = self.deep[0]
            found.append(
                f"{len(self.deep)} files lie in folders below their class folder: {first} is of class "
                f"{self.label(first)!r}. If the deeper folders are the classes, move them up."
            )
        if empty := self.empty:
            found.append(f"{len(empty)} class folders hold no media file: {listed(empty)}. Add videos, or remove them.")
        return found

    @property
    def empty(self) -> list[str]:
        """Classes without a media file."""
        return [name for name, count in self.num_files.items() if not count]


def find_class_folders(folder: Path | str, stream: Literal["both", "video", "audio"] = "both") -> ClassFolders:
    """Read the class folders of a folder from names alone, without opening a file.

    Args:
        folder: The folder.
        stream: Streams that are needed; with ``audio``, audio files count too.

    Raises:
        ManifestError: If there is no class folder, split folders stand beside class folders or hold files without a
            class folder, or a name contains ``|``, which separates the labels of a row.
    """
    folder = Path(folder)
    media = sorted(walk_media(folder, media_extensions(stream)))
    tops = _folders_in(folder)
    has_splits = _are_splits(folder, tops, media)
    above = [folder / name for name in tops] if has_splits else [folder]
    counts = {name_to_text(name): 0 for parent in above for name in _folders_in(parent)}
    found = ClassFolders(folder, has_splits, dict(sorted(counts.items())), [], [])
    depth = 2 if has_splits else 1
    for path in media:
        label = found.label(path)
        if label is None:
            found.unlabeled.append(path)
            continue
        found.num_files[label] += 1
        if len(path.parts) > depth + 1:
            found.deep.append(path)
    if not any(found.num_files.values()):
        raise ManifestError(
            f"{folder}: none of its {len(media)} media files lies in a class folder. Put the videos of each class into "
            f"a folder of its name: {folder / 'CLASS' / 'video.mp4'}"
        )
    for name in found.num_files:
        if "|" in name:
            raise ManifestError(f"{folder}: rename the class folder {name!r}: | separates the labels of a row.")
    return found


def _folders_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _are_splits(folder: Path, tops: Sequence[str], media: Sequence[Path]) -> bool:
    """Return True if the folders directly below are splits; raise ManifestError if that is not clear."""
    named = [name for name in tops if name.lower() in SPLIT_OF_FOLDER]
    if not named:
        return False
    direct = [path for path in media if len(path.parts) == 2 and path.parts[0] in named]
    others = [name for name in tops if name not in named]
    if not others and not direct:
        return True
    if not others:
        raise ManifestError(
            f"{folder}: {listed(named)} are names of splits, but {direct[0]} lies in no class folder. Put it into "
            f"{direct[0].parent / 'CLASS' / direct[0].name}"
        )
    if len({path.parts[0] for path in direct}) == len(named):
        return False  # a class that is called train, such as the vehicle
    raise ManifestError(
        f"{folder}: the split folder {named[0]} stands beside other folders: {listed(others)}. Move these into it as "
        "class folders, or elsewhere; or, if it is a class, put its files directly into it."
    )


def class_counts(labels: np.ndarray, splits: np.ndarray) -> list[tuple[str, dict[str, int]]]:
    """Return the classes in sorted order with their number of rows by split; rows without a label are left out."""
    counts: dict[str, Counter[str]] = {}
    for label, split in zip(labels, splits, strict=True):
        if label:
            counts.setdefault(str(label), Counter())[str(split or "none")] += 1
    return [(label, dict(counts[label])) for label in sorted(counts)]


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first of some names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
