"""The verb ``index``: the media files of a folder as a manifest."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa

from avssl.core.manifest import ManifestError
from avssl.core.ranges import Seconds, Workers, checked
from avssl.core.tables import write_table
from avssl.data.health.indexing import FolderIndex, index_folder, path_below
from avssl.data.health.report import HealthSettings

FIRST = ("out", "segment_seconds", "segment_over_seconds", "num_workers", "strict", "depth", "min_seconds")


@checked
def index(
    folder: Path | str,
    *,
    out: Path | str | None = None,
    segment_seconds: Seconds = 10.0,
    segment_over_seconds: Seconds = 30.0,
    num_workers: Workers | None = None,
    strict: bool = False,
    health: HealthSettings | None = None,
) -> FolderIndex:
    """List the usable media files of a folder in a manifest, and the others with the reason.

    Every file is checked in a separate process with limits on time and memory. Results are kept in the user's cache
    folder, so unchanged files are not checked again and an interrupted run continues where it stopped.

    Args:
        folder: Folder that is searched at any depth.
        out: Manifest to write, in the folder or in one above it; default: FOLDER/manifest.csv. Failures go into
            NAME.failures.csv beside it.
        segment_seconds: Length of the rows that long files are cut into.
        segment_over_seconds: Files longer than this are cut.
        num_workers: Files checked at a time; default: one per core.
        strict: Fail if any file cannot be used.
        health: How files are checked.

    Raises:
        ManifestError: If the folder has no usable media file, ``out`` is elsewhere, or ``strict`` is set and a file
            cannot be used.
    """
    folder = Path(folder)
    out = Path(out) if out else folder / "manifest.csv"
    _check_place(folder, out)
    found = index_folder(
        folder,
        root=out.parent,
        segment_seconds=segment_seconds,
        segment_over_seconds=segment_over_seconds,
        health=health,
        num_workers=num_workers,
        progress=True,
    )
    print(found.summary())
    failures = out.with_suffix(".failures.csv")
    if found.failures or found.left_out:
        write_table(pa.concat_tables([found.failures_table(), found.left_out_table()]), failures)
        print(f"failures: {failures}")
    else:
        failures.unlink(missing_ok=True)  # of an earlier look
    if not len(found.manifest):
        raise ManifestError(f"{folder}: none of its {len(found.failures)} media files can be used.")
    found.manifest.write(out)
    print(f"manifest: {out}")
    if strict and found.failures:
        raise ManifestError(f"{len(found.failures)} files cannot be used (--strict): {failures}")
    return found


def _check_place(folder: Path, out: Path) -> None:
    """Raise an error if a manifest cannot be written at ``out`` or cannot name the files, before any work."""
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder.")
    beside = f"mkdir DIR; ln -s {folder.absolute()} DIR/videos; avssl index DIR/videos -o DIR/manifest.csv"
    if not out.parent.is_dir() or path_below(folder, out.parent) is None:
        raise ManifestError(
            f"{out}: a manifest's paths are relative to it. Write it into {folder} or a folder above, or beside a "
            f"link to the folder: {beside}"
        )
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise ManifestError(
            f"{out.parent}: cannot be written (read-only, or no permission). Name another place with -o: a folder "
            f"above, or one with a link to the videos: {beside}"
        )
