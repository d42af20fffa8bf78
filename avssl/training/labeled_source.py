"""Labeled rows of a source: a manifest, or a folder of class folders, which is checked, labeled and divided."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from avssl.core.manifest import Manifest, ManifestError, is_url, read_manifest
from avssl.data.health.indexing import index_folder
from avssl.data.health.report import MIN_SECONDS, HealthSettings
from avssl.data.ledger import failures_table
from avssl.data.packed.sources import is_packed, read_packed
from avssl.data.splits import (
    check_divided,
    check_trainable,
    choose_shares,
    class_table,
    find_class_folders,
    with_folder_labels,
)
from avssl.media.backends import BackendName
from avssl.media.limits import MediaLimits
from avssl.models.classifier import Inputs
from avssl.training.rows import check_bad_fraction

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabeledSource:
    """Labeled rows, and the files that gave none."""

    manifest: Manifest
    """The rows; of a folder with the columns ``label`` and ``split``."""
    unusable: pa.Table
    """Files of a folder that gave no row, and why."""


def is_folder(source: Path | str) -> bool:
    """Return True if a source is a folder of media, and not a manifest or a saved dataset."""
    return not is_url(source) and Path(source).is_dir() and not is_packed(source)


def read_labeled_source(
    source: Path | str,
    *,
    inputs: Inputs = "both",
    shares: Sequence[float] | None = None,
    seed: int = 0,
    unknown_classes: Sequence[str] = (),
    audio_seconds: float = MIN_SECONDS,
    max_bad_fraction: float = 0.1,
    backend: BackendName = "auto",
    limits: MediaLimits | None = None,
    progress: bool = False,
) -> LabeledSource:
    """Return the rows of a manifest, of archives, or of a folder of class folders as ``avssl index --labels folders``.

    Nothing is written into a folder.

    Args:
        source: Manifest, archives (:mod:`avssl.data.packed`) or folder.
        inputs: Streams that the files of a folder need.
        shares: Shares of training, validation and test; default: 0.8, 0.1, 0.1. Split folders are taken as they are.
        seed: Random seed of the splits.
        unknown_classes: Classes that are never trained on, for which one recording is enough.
        audio_seconds: Length of the audio of a clip: shorter files of a folder are used down to it.
        max_bad_fraction: Largest share of the files of a folder that may be unusable.
        backend: Decoder of media files.
        limits: Limits on media files.
        progress: Show a progress bar.

    Raises:
        ManifestError: If the source is missing, has one class only, a class without enough usable recordings, or too
            many unusable files; class folders are looked at before any file is opened.
        InputError: If ``shares`` are given for folders that are splits.
    """
    if is_packed(source):
        found = read_packed(source, progress=progress)
        return LabeledSource(found.manifest, found.failures)
    if not is_folder(source):
        return LabeledSource(read_manifest(source), failures_table([]))
    folder = Path(source)
    classes = find_class_folders(folder, inputs)
    check_trainable(classes, unknown_classes)
    shares = choose_shares(classes, shares)
    indexed = index_folder(
        folder,
        health=HealthSettings(
            backend=backend, min_seconds=min(MIN_SECONDS, audio_seconds), limits=limits or MediaLimits(), stream=inputs
        ),
        progress=progress,
    )
    if parts := indexed.left_out_summary():
        _LOGGER.info("note        left out of files: %s", parts)
    check_bad_fraction(indexed, folder, max_bad_fraction, f" --labels folders --stream {inputs}")
    manifest = with_folder_labels(indexed.manifest, classes, Path(), shares, seed)
    check_divided(manifest, classes, unknown_classes)
    _compare_with_listed(manifest, folder / "manifest.csv")
    for line in [*class_table(manifest).split("\n"), *(f"note: {remark}" for remark in classes.remarks())]:
        _LOGGER.info("%s", line)
    return LabeledSource(manifest, indexed.failures_table())


def _compare_with_listed(manifest: Manifest, listed: Path) -> None:
    """Say that a manifest in the folder is not read; warn of rows to which it gives another label or split."""
    if not listed.is_file():
        return
    _LOGGER.info(
        "note        classes are the folders in %s; for the labels of %s name that file", listed.parent, listed
    )
    try:
        theirs = read_manifest(listed)
    except ManifestError as error:
        _LOGGER.warning("%s It is not compared with the labels and splits of this run.", error)
        return
    row_of = {str(name): row for row, name in enumerate(theirs["id"])}
    both = [(row, row_of[str(name)]) for row, name in enumerate(manifest["id"]) if str(name) in row_of]
    for column in ("label", "split"):
        if column not in theirs:
            continue
        others = [
            row for row, other in both if theirs[column][other] and theirs[column][other] != manifest[column][row]
        ]
        if others:
            _LOGGER.warning(
                "%d of %d rows have another %s in %s, the first is %s: results on the two cannot be compared. Name "
                "that file in place of the folder to use its labels and splits.",
                len(others),
                len(manifest),
                column,
                listed,
                manifest.value(others[0], "id"),
            )
