"""Notice that a file was replaced after its rows were made: another valid file would be read without an error.

``avssl index`` writes the size and a hash of each file into the manifest. A run adds the dates as it begins. A row is
a bad one if its file has another size when it is opened, or another date and not the same content.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

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
    now = _stamps(manifest)
    sizes, dates = _column(manifest, BYTES, now, 0), [None if stamp is None else stamp[1] for stamp in now]
    if again and DATE in manifest:
        dates = _dates_of_resume(manifest, now)
    return manifest.with_columns({BYTES: pa.array(sizes, pa.int64()), DATE: pa.array(dates, pa.int64())})


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


def _dates_of_resume(manifest: Manifest, now: Sequence[tuple[int, int] | None]) -> list[int | None]:
    """Return the dates that continue to count: today's where the file is the same, else that of the first start."""
    dates: list[int | None] = manifest.table[DATE].to_pylist()
    replaced, assumed = [], []
    for row, stamp in enumerate(now):
        if stamp is None or stamp == (manifest.value(row, BYTES), dates[row]):
            continue
        known = manifest.value(row, HASH)
        if stamp[0] != manifest.value(row, BYTES) or (known and not _has_content(manifest, row)):
            replaced.append(row)
            continue
        assumed += [] if known else [row]
        dates[row] = stamp[1]
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
    return dates


def _stamps(manifest: Manifest) -> list[tuple[int, int] | None]:
    """Return (bytes, date) of the files of each row, None if one is missing."""
    files = [_files(manifest, row) for row in range(len(manifest))]
    distinct = list(dict.fromkeys(files))
    stamp_of = dict(zip(distinct, in_threads(_stamp, distinct), strict=True))
    return [stamp_of[pair] for pair in files]


def _files(manifest: Manifest, row: int) -> tuple[Path, ...]:
    return tuple(dict.fromkeys((manifest.file(row), manifest.sound_file(row))))


def _stamp(files: tuple[Path, ...]) -> tuple[int, int] | None:
    try:
        found = [os.stat(file) for file in files]
    except (OSError, ValueError):
        return None
    return sum(status.st_size for status in found), max(status.st_mtime_ns for status in found)


def _column(manifest: Manifest, name: str, stamps: Sequence[tuple[int, int] | None], field: int) -> list[int | None]:
    """Return a column, with what was found in the place of empty cells."""
    found = [None if stamp is None else stamp[field] for stamp in stamps]
    if name not in manifest:
        return found
    given = manifest.table[name].to_pylist()
    return [new if old is None else old for old, new in zip(given, found, strict=True)]
