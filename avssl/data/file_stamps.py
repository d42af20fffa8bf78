"""Notice that a file was replaced after its rows were made: another valid file would be read without an error.

``avssl index`` writes the size and a hash of each file into the manifest. A run adds the dates as it begins. A row is
a bad one if its file has another size when it is opened, or another date and not the same content.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avssl.core.manifest import Manifest, is_url
from avssl.data.content import content_hashes, in_threads
from avssl.media import MediaError

BYTES, HASH, DATE = "file_bytes", "file_hash", "file_date_ns"
"""Columns: size in bytes, :func:`~avssl.data.content.content_hashes`, and date of the last change in nanoseconds. Of a
row with two files, the sum of the sizes and the later date."""

_LOGGER = logging.getLogger(__name__)

_ADVICE = "Put the file back, or make its rows again with avssl index."


def stamped(manifest: Manifest, *, again: bool = False) -> Manifest:
    """Return the rows with the size and date of their files; a size that the manifest gives is kept.

    Args:
        manifest: The rows, of media files or of a prepared corpus on this machine; others are returned as they are.
        again: The rows were stamped when the run began, and the run is continued: files with another date and the same
            size and content are taken as the same. Replaced files and assumptions are counted in a warning.
    """
    if not len(manifest) or is_url(manifest.location(0)):
        return manifest
    sizes, dates = _stamps(manifest)
    if again and {BYTES, DATE} <= set(manifest.table.column_names):
        if sizes.equals(manifest.table[BYTES]) and dates.equals(manifest.table[DATE]):
            return manifest  # as it lies on the disk, which all ranks share
        dates = _dates_of_resume(manifest, sizes, dates)
    if BYTES in manifest:
        sizes = pc.coalesce(manifest.table[BYTES], sizes)
    return manifest.with_columns({BYTES: sizes, DATE: dates})


def check_unchanged(manifest: Manifest, row: int) -> None:
    """Raise an error if the files of a row are not those that the manifest was made of; a missing one is let pass.

    Raises:
        MediaError: With the reason ``"replaced"``.
    """
    expected, date = manifest.value(row, BYTES), manifest.value(row, DATE)
    if expected is None:
        return
    stamp = _stamp(_files(manifest, row))
    if stamp is None:  # opening it will say why
        return
    found = ""
    if stamp[0] != expected:
        found = f"it has {stamp[0]} bytes, and had {expected} when its rows were made: another file is there now."
    elif date is not None and stamp[1] != date and not _has_content(manifest, row):
        found = "it was written again after its rows were read: another file may be there now."
    if found:
        raise MediaError(manifest.location(row), "container", "replaced", found, _ADVICE)


def _has_content(manifest: Manifest, row: int) -> bool:
    """Return True if the content of a row's files is known and the same."""
    known = None if "shard_header_bytes" in manifest else manifest.value(row, HASH)
    return bool(known) and content_hashes(manifest.select(np.array([row])))[0] == known


def _dates_of_resume(manifest: Manifest, sizes: pa.ChunkedArray, now: pa.ChunkedArray) -> pa.Array:
    """Return the dates that continue to count: today's where the file is the same, else that of the first start."""
    then, is_there = manifest.table[DATE], pc.is_valid(now)
    is_same_size = pc.equal(sizes, manifest.table[BYTES]).fill_null(False)
    changed = pc.and_(is_there, pc.invert(pc.and_(is_same_size, pc.equal(now, then).fill_null(False))))
    replaced, assumed, same = [], [], np.zeros(len(manifest), dtype=bool)
    for row in np.flatnonzero(_mask(changed)).tolist():
        known = manifest.value(row, HASH)
        if not is_same_size[row].as_py() or (known and not _has_content(manifest, row)):
            replaced.append(row)
            continue
        assumed += [] if known else [row]
        same[row] = True
    if replaced:
        _LOGGER.warning(
            "%d rows are dropped: their files were replaced since the run began. The first is %s.",
            len(replaced),
            manifest.value(replaced[0], "id"),
        )
    if assumed:
        _LOGGER.warning(
            "%d rows have files with another date than when the run began, and the same size: they are taken as the "
            "same. The first is %s.",
            len(assumed),
            manifest.value(assumed[0], "id"),
        )
    return pc.if_else(pa.array(same), now, then)


def _stamps(manifest: Manifest) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return the (N,) bytes and dates of the files of each row, null if one is missing.

    Clips of one file share its stamp, so that no objects are made for each row.
    """
    names = [name for name in ("path", "audio_path") if name in manifest]
    numbers = np.stack([_numbers(manifest.table[name]) for name in names])
    _, firsts, kind = np.unique(
        numbers[0] * (int(numbers[-1].max(initial=0)) + 2) + numbers[-1], return_index=True, return_inverse=True
    )
    stamps = in_threads(_stamp, [_files(manifest, row) for row in firsts.tolist()])
    columns = [pa.array([None if stamp is None else stamp[field] for stamp in stamps], pa.int64()) for field in (0, 1)]
    of_row = pa.array(kind)
    return pa.chunked_array([columns[0].take(of_row)]), pa.chunked_array([columns[1].take(of_row)])


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Return (N,) int64, equal for equal texts; -1 for an empty cell."""
    parts = [part.indices.fill_null(-1) for part in column.dictionary_encode().chunks]
    return pa.chunked_array(parts, pa.int32()).to_numpy().astype(np.int64)


def _mask(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.to_numpy(), dtype=bool)


def _files(manifest: Manifest, row: int) -> tuple[Path, ...]:
    return tuple(dict.fromkeys((manifest.file(row), manifest.sound_file(row))))


def _stamp(files: tuple[Path, ...]) -> tuple[int, int] | None:
    try:
        found = [os.stat(file) for file in files]
    except (OSError, ValueError):
        return None
    return sum(status.st_size for status in found), max(status.st_mtime_ns for status in found)
