"""Label and split columns of a manifest from the class folders of its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, ManifestError
from avssl.core.names import name_from_text
from avssl.data.splits.assignment import SHARES, assign_splits, check_shares
from avssl.data.splits.class_folders import ClassFolders, class_counts, listed
from avssl.data.splits.recordings import Recordings, file_names

_MOST_LINES = 30


def choose_shares(folders: ClassFolders, shares: Sequence[float] | None) -> Sequence[float] | None:
    """Return the shares to divide the rows by; None where the folders are splits already.

    Raises:
        InputError: If shares are given although the folders are splits, or they do not sum to 1.
    """
    if shares is not None:
        check_shares(shares)
    if folders.has_splits and shares is not None:
        raise InputError(
            f"{folders.folder}: its folders are splits already, so it cannot be divided by split "
            f"({' '.join(f'{share:g}' for share in shares)}). Leave it out, or name a folder of class folders."
        )
    return None if folders.has_splits else shares or SHARES


def with_folder_labels(
    manifest: Manifest, folders: ClassFolders, below: Path, shares: Sequence[float] | None, seed: int = 0
) -> Manifest:
    """Return a manifest with the columns ``label`` and ``split``; cells that hold a value are kept.

    Args:
        manifest: Rows of files in the folder.
        folders: Its class folders.
        below: The folder relative to the manifest's root.
        shares: Shares of training, validation and test, from :func:`choose_shares`; None takes the split folders.
        seed: Random seed of the splits.
    """
    paths = [Path(name_from_text(name)).relative_to(below) for name in file_names(manifest).to_pylist()]
    labels = _filled(manifest, "label", [folders.label(path) for path in paths])
    if shares is None:
        splits = _filled(manifest, "split", [folders.split(path) for path in paths])
    else:
        names = [path.as_posix() for path in paths]
        groups, given = Recordings(manifest).groups, _filled(manifest, "split", [None] * len(paths))
        splits = assign_splits(groups, names, labels, shares, seed=seed, given=given).tolist()
    table = manifest.table.drop_columns([name for name in ("label", "split") if name in manifest])
    for name, values in (("label", labels), ("split", splits)):
        table = table.append_column(name, pa.array(values, pa.string()))
    return Manifest(table, manifest.place)


def _filled(manifest: Manifest, name: str, values: Sequence[str | None]) -> list[str | None]:
    given = manifest[name] if name in manifest else [None] * len(manifest)
    return [old or new for old, new in zip(given, values, strict=True)]


def class_table(manifest: Manifest) -> str:
    """Return the number of rows of each class and split as lines of text."""
    counts = class_counts(manifest["label"], manifest["split"])
    splits = sorted({split for _, of_class in counts for split in of_class}, key=lambda name: (name == "test", name))
    width = max([len(label) for label, _ in counts] + [len("class")])
    lines = [f"{'class':<{width}}" + "".join(f"{split:>8}" for split in splits)]
    for label, of_class in counts[:_MOST_LINES]:
        lines.append(f"{label:<{width}}" + "".join(f"{of_class.get(split, 0):>8}" for split in splits))
    if len(counts) > _MOST_LINES:
        lines.append(f"and {len(counts) - _MOST_LINES} more classes")
    total = [sum(of_class.get(split, 0) for _, of_class in counts) for split in splits]
    lines.append(f"{f'{len(counts)} classes':<{width}}" + "".join(f"{number:>8}" for number in total))
    several = _recordings_of_several_classes(manifest)
    return "\n".join([*lines, *several])


def _recordings_of_several_classes(manifest: Manifest) -> list[str]:
    """Return a line on recordings that stand in several class folders."""
    groups, labels = Recordings(manifest).groups, manifest["label"]
    first: dict[int, int] = {}
    for row, (group, label) in enumerate(zip(groups.tolist(), labels, strict=True)):
        other = first.setdefault(group, row)
        if label and labels[other] and labels[other] != label:
            one, two = manifest.value(other, "path"), manifest.value(row, "path")
            return [f"the same recording stands in several classes, the first is {one} and {two}: one label is wrong"]
    return []


def check_trainable(folders: ClassFolders, unknown_classes: Sequence[str] = ()) -> None:
    """Raise ManifestError if no classifier can be trained on class folders, by the names of their files alone.

    There must be two classes, and in each a file; two where the files have to be divided.

    Args:
        folders: The class folders.
        unknown_classes: Classes that are never trained on.
    """
    if absent := [name for name in unknown_classes if name not in folders.num_files]:
        raise ManifestError(
            f"{folders.folder}: unknown_classes: there is no class folder {absent[0]!r}, but "
            f"{listed([*folders.num_files])}."
        )
    names = [name for name in folders.num_files if name not in unknown_classes]
    if folders.empty:
        raise ManifestError(
            f"{folders.folder}: {len(folders.empty)} class folders hold no media file: {listed(folders.empty)}. "
            "Add videos, or remove the folders."
        )
    if len(names) < 2:
        raise ManifestError(
            f"{folders.folder}: there is one class, {listed(names)}, and a classifier needs two. Name the folder above "
            "the class folders, or add a class."
        )
    if not folders.has_splits:
        _check_divisible(folders.folder, [name for name in names if folders.num_files[name] < 2])


def check_divided(manifest: Manifest, folders: ClassFolders, unknown_classes: Sequence[str] = ()) -> None:
    """Raise ManifestError if a class has lost its files to the health check, or cannot be divided by recordings.

    Args:
        manifest: The rows of usable files, with labels and splits.
        folders: Class folders that passed :func:`check_trainable`.
        unknown_classes: Classes that are never trained on.
    """
    labels, groups = manifest["label"], Recordings(manifest).groups
    lost = [name for name in folders.num_files if name not in set(labels.tolist())]
    if lost:
        raise ManifestError(
            f"{folders.folder}: no file of {len(lost)} classes can be used: {listed(lost)}. List the reasons with: "
            f"avssl index {folders.folder} --labels folders. Replace the files, or remove the folders."
        )
    if not folders.has_splits:
        single = [name for name in folders.num_files if len(np.unique(groups[labels == name])) < 2]
        _check_divisible(folders.folder, [name for name in single if name not in unknown_classes])


def _check_divisible(folder: Path, single: Sequence[str]) -> None:
    if single:
        raise ManifestError(
            f"{folder}: {len(single)} classes have one usable recording, which cannot be both trained and tested on "
            f"(copies and segments count as one): {listed(single)}. Add videos of them, or remove their folders."
        )
