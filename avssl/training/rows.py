"""The rows of a pretraining run: found in a folder or a manifest, divided, and kept in the run directory."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avssl.config import Config
from avssl.core import distributed
from avssl.core.manifest import Manifest, ManifestError, is_columnar, is_url, read_manifest
from avssl.core.outputs import ClaimedFolder
from avssl.data.conditions import rows_where
from avssl.data.file_stamps import stamped
from avssl.data.health.indexing import FolderIndex, index_folder
from avssl.data.health.report import MIN_SECONDS, HealthSettings
from avssl.data.ledger import failures_table
from avssl.data.packed.sources import is_packed, read_packed
from avssl.data.row_segments import segment_rows
from avssl.data.splits import Recordings, held_out_rows, split_rows
from avssl.training.run_directory import RunDirectory
from avssl.training.start import mark_begun

_LOGGER = logging.getLogger(__name__)

MIN_ROWS = 8
"""A contrastive loss has too few negatives with fewer rows."""
MIN_GALLERY = 32
"""Retrieval among fewer rows is too noisy, so they are used for training instead."""


@dataclass(frozen=True)
class Rows:
    """Rows of a run, and the files that gave none."""

    manifest: Manifest
    """Rows to train on."""
    held_out: Manifest | None
    """Gallery of the monitors; None if all rows are trained on."""
    unusable: pa.Table
    """Files that gave no row."""
    allowed_bad_fraction: float
    """Share of all files and rows that may be unreadable (``data.max_bad_fraction``)."""

    @property
    def max_bad_fraction(self) -> float:
        """Share of the rows that may still fail, given the files that already did."""
        bad = len(self.unusable)
        allowed = self.allowed_bad_fraction * (len(self.manifest) + bad) - bad
        return min(1.0, max(0.0, allowed / len(self.manifest)))


def rows_of_run(
    config: Config,
    run: RunDirectory,
    claim: ClaimedFolder | None = None,
    *,
    resume: bool = False,
    dry_run: bool = False,
    progress: bool = False,
) -> Rows:
    """Find the rows on rank 0, write them to the run directory, and read them from there on every rank.

    A resumed run reads the rows with which it began. A dry run finds the rows on every rank and writes nothing.

    Args:
        config: Every setting.
        run: The run directory.
        claim: From :meth:`RunDirectory.claimed`, on rank 0.
        resume: Read the rows that are there.
        dry_run: Write nothing.
        progress: Show a progress bar.

    Raises:
        ManifestError: If the source has too few usable rows.
        RunDirectoryError: If the run was stopped before its rows were found.
    """
    allowed = config.data.max_bad_fraction
    if dry_run:
        found, unusable = find_rows(config, progress=progress, dry_run=True)
        return Rows(*hold_out(config, found), unusable, allowed)
    if not resume and claim is not None:
        listed = Path(config.data.source) / "manifest.csv"
        if listed.is_file():
            _LOGGER.info("note        to use the splits of %s, name that file instead of its folder", listed)
        found, unusable = find_rows(config, progress=progress)
        manifest, held_out = hold_out(config, found)
        manifest, held_out = stamped(manifest), held_out and stamped(held_out)
        mark_begun(run)
        claim.begin()
        run.write_rows(manifest, unusable, held_out, mapped=is_columnar(config.data.source))
        run.write_config(config)
    distributed.barrier()
    manifest, unusable = run.read_rows(config.data.source)
    held_out = run.read_held_out(config.data.source)
    if resume:
        manifest, held_out = stamped(manifest, again=True), held_out and stamped(held_out, again=True)
    return Rows(manifest, held_out, unusable, allowed)


def find_rows(
    config: Config, *, min_rows: int = MIN_ROWS, progress: bool = False, dry_run: bool = False
) -> tuple[Manifest, pa.Table]:
    """Return the rows of ``data.source``, a folder, a manifest or archives, and a table of what gave none.

    A dry run stores no health report.

    Raises:
        ManifestError: If there are fewer than ``min_rows``, or if more files are unusable than
            ``data.max_bad_fraction`` allows.
    """
    source = Path(config.data.source)
    is_folder = source.is_dir() and not is_packed(config.data.source)
    if is_folder:
        manifest, unusable = _index(config, source, progress, dry_run)
        manifest = rows_where(manifest, config.data.where)
    else:
        manifest, unusable = _listed(config, progress)
        manifest = rows_of_split(rows_where(manifest, config.data.where), config.data.split)
        if config.data.segment_manifest:
            manifest = _segmented(config, manifest)
    if len(manifest) < min_rows:
        cut = (
            "cut them into more rows with --data.segment-seconds and --data.segment-over-seconds."
            if is_folder
            else "cut those of whole videos into more rows with --data.segment-manifest true."
        )
        raise ManifestError(
            f"{source}: {len(manifest)} usable rows, but at least {min_rows} are needed. Add videos, or {cut}"
        )
    return manifest, unusable


def _listed(config: Config, progress: bool) -> tuple[Manifest, pa.Table]:
    """Return the rows of a manifest, or of archives, and the samples of archives that gave none."""
    source = config.data.source
    if not is_packed(source):
        if not is_url(source) and not Path(source).exists():
            raise ManifestError(f"{source}: no such folder or manifest; archives are FILE.tar or hf:OWNER/NAME.")
        return read_manifest(source), failures_table([])
    found = read_packed(source, progress=progress)
    num_bad, allowed = len(found.failures), config.data.max_bad_fraction
    total = num_bad + len(found.manifest)
    if num_bad > allowed * total:
        raise ManifestError(
            f"{source}: {num_bad} of {total} samples cannot be used, more than the allowed share of "
            f"{allowed:g} (data.max_bad_fraction): {'; '.join(reasons(found.failures))}. "
            f"The first: {found.failures['message'][0].as_py()}"
        )
    return found.manifest, found.failures


def _segmented(config: Config, manifest: Manifest) -> Manifest:
    """Cut the rows of whole files; files that cannot be opened stay whole, and are bad rows of the training."""
    rows, errors = segment_rows(manifest, config.data.segment_seconds, config.data.segment_over_seconds)
    _LOGGER.info("note        %d rows of %d, cut into %g s", len(rows), len(manifest), config.data.segment_seconds)
    if errors:
        _LOGGER.warning("%d files cannot be opened and stay whole rows. The first: %s", len(errors), errors[0])
    return rows


def _index(config: Config, folder: Path, progress: bool, dry_run: bool) -> tuple[Manifest, pa.Table]:
    data = config.data
    found = index_folder(
        folder,
        segment_seconds=data.segment_seconds,
        segment_over_seconds=data.segment_over_seconds,
        health=HealthSettings(
            backend=data.backend, min_seconds=min(MIN_SECONDS, config.sampling.audio_seconds), limits=config.limits
        ),
        journal="read" if dry_run else "update",
        progress=progress,
    )
    if parts := found.left_out_summary():
        _LOGGER.info("note        left out of files: %s", parts)
    check_bad_fraction(found, folder, data.max_bad_fraction)
    return found.manifest, found.failures_table()


def check_bad_fraction(found: FolderIndex, folder: Path, allowed: float, options: str = "") -> None:
    """Raise ManifestError if more than the allowed share of the files of a folder cannot be used.

    ``options`` are those with which avssl index finds the same.
    """
    if found.bad_fraction > allowed:
        raise ManifestError(
            f"{folder}: {len(found.failures)} of its files cannot be used, more than the allowed share of "
            f"{allowed:g} (data.max_bad_fraction): {'; '.join(reasons(found.failures_table()))}. "
            f"See them all with: avssl index {folder}{options}"
        )


def rows_of_split(manifest: Manifest, split: str) -> Manifest:
    """Return the rows of a split, or all rows if the manifest names no splits or ``split`` is ``all``."""
    if split == "all" or "split" not in manifest or not _has_text(manifest, "split"):
        return manifest
    try:
        return manifest.select(split_rows(manifest, "split", split))
    except ManifestError as error:
        raise ManifestError(f"data.split: {error} Use all for all rows.") from error


def _has_text(manifest: Manifest, column: str) -> bool:
    return bool(pc.any(pc.not_equal(manifest.table[column], "")).as_py())


def hold_out(config: Config, manifest: Manifest) -> tuple[Manifest, Manifest | None]:
    """Divide the rows into those to train on and the monitors' gallery. The seed has no influence.

    The gallery is taken from ``monitor.split`` if the manifest has enough such rows outside training. Otherwise
    a few files are kept out of training (:func:`~avssl.data.splits.held_out_rows`).

    Returns:
        The training rows, and the gallery; None if there is no monitor, or too few rows could be kept out.
    """
    settings = config.monitor
    if not settings.every_steps:
        return manifest, None
    is_trained_on = config.data.split in ("all", settings.split)
    other = None if is_trained_on else _gallery_split(config, settings.split)
    if other is not None:
        other = _without_repeated(other, manifest)
    if other is not None and len(other) >= MIN_GALLERY:
        return manifest, other.select(held_out_rows(other, settings.num_clips))
    recordings = Recordings(manifest)
    if recordings.num_copies:
        _LOGGER.info(
            "note        %d files are copies of or links to others; all names of a file are held out, or none",
            recordings.num_copies,
        )
    max_rows = min(settings.num_clips, int(settings.held_out_fraction * len(manifest)))
    keep = held_out_rows(manifest, max_rows, recordings)
    if keep.sum() < MIN_GALLERY:
        return manifest, None
    return manifest.select(~keep), manifest.select(keep)


def _without_repeated(gallery: Manifest, trained: Manifest) -> Manifest:
    """Return the rows of a gallery that show nothing of the training rows' files, copies or links at the same time."""
    recordings = Recordings(trained, gallery)
    places = np.arange(len(trained) + len(gallery))
    repeated = recordings.repeated(places[len(trained) :], places[: len(trained)]) - len(trained)
    if not len(repeated):
        return gallery
    _LOGGER.warning(
        "%d rows are left out of the monitors' gallery, as training rows show the same time of the same files, or of "
        "copies of or links to them. The first is %s.",
        len(repeated),
        gallery.value(int(repeated[0]), "id"),
    )
    return gallery.select(np.setdiff1d(np.arange(len(gallery)), repeated))


def _gallery_split(config: Config, split: str) -> Manifest | None:
    """Return the rows of a manifest's split, or None if there are too few or the source is a folder."""
    source = config.data.source
    if not is_url(source) and Path(source).is_dir() and not is_packed(source):
        return None
    manifest = read_packed(source).manifest if is_packed(source) else read_manifest(source)
    manifest = rows_where(manifest, config.data.where, log=False)
    rows = manifest.where(split=split) if "split" in manifest else manifest.select(np.empty(0, dtype=np.int64))
    return rows if len(rows) >= MIN_GALLERY else None


def reasons(unusable: pa.Table) -> list[str]:
    """Return the number of files by reason, such as ``["3 no_audio"]``."""
    counts = unusable["reason"].value_counts().to_pylist()
    return [f"{count['counts']} {count['values']}" for count in counts]
