"""Shards of a prepared corpus: tar files that WebDataset reads in order, and avssl in any order.

::

    OUT/
    ├── manifest.csv            one row per clip: its shard, position and source, and the row's own columns
    ├── dropped_files.csv       rows that could not be copied, and why
    ├── prepared.json           settings, totals
    └── shards/
        ├── 000000.tar          clips, three members each: see avssl.media.prepared.clip
        └── 000000.json         its rows, its failures, its SHA-256; written last, so a shard with one is whole

A shard is written under a temporary name and renamed. Keys in the tar are numbers, not names from a manifest, so
that a manifest cannot name a path.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from avssl.core.data_files import read_json
from avssl.core.user_files import open_regular
from avssl.core.whole_file import whole_file
from avssl.media.prepared.clip import BLOCK, FORMAT_VERSION, padded
from avssl.media.prepared.writer import PreparedClip


@contextmanager
def shard_writer(path: Path) -> Iterator[ShardWriter]:
    """Write one tar, whole or not at all.

    Args:
        path: The tar file; its folder is made.

    Raises:
        OSError: If there is no room for it.

    Example:
        >>> from avssl.data.shards.copying import copy_clip
        >>> from avssl.media.prepared.clip import CopySettings
        >>> with avssl.open_media("video.mp4") as reader:
        ...     clip = copy_clip(reader, 0.0, 1.0, CopySettings())
        >>> with shard_writer(Path("shards/000000.tar")) as shard:
        ...     position = shard.add(0, clip, {"id": "a.mp4"})
        >>> Path("shards/000000.tar").is_file(), len(shard.sha256)
        (True, 64)
    """
    with whole_file(path, durable=True) as temporary, temporary.open("wb") as file:
        shard = ShardWriter(file)
        yield shard
        shard.finish()


class ShardWriter:
    """Writes the clips of a tar; see :func:`shard_writer`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = _Hashing(file)
        self._tar = tarfile.open(fileobj=cast(BinaryIO, self._file), mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self.sha256 = ""
        """SHA-256 of the finished file."""

    def add(self, number: int, clip: PreparedClip, row: Mapping[str, Any]) -> dict[str, int]:
        """Append a clip.

        Args:
            number: Number of the clip, which names its members.
            row: Row of the manifest, stored in the JSON member for readers without a manifest.

        Returns:
            ``shard_offset`` and ``shard_header_bytes``, for :class:`avssl.media.prepared.reader.PreparedReader`.
        """
        about = {"format": FORMAT_VERSION, "packets": len(clip.packets), **clip.about, "row": dict(row)}
        line = (json.dumps(about) + "\n").encode()
        table = io.BytesIO()
        np.save(table, clip.packets)
        offset = self._tar.offset + BLOCK
        for suffix, data in (("json", line), ("packets.npy", table.getvalue()), ("mp4", clip.mp4)):
            member = tarfile.TarInfo(f"{number:09d}.{suffix}")
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
        return {
            "shard_offset": offset,
            "shard_header_bytes": padded(len(line)) + BLOCK + padded(len(table.getvalue())) + BLOCK,
        }

    def finish(self) -> None:
        """Write the end of the tar."""
        self._tar.close()
        self.sha256 = self._file.digest.hexdigest()


class _Hashing:
    """A file that is hashed while it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shard_name(number: int) -> str:
    """Return the relative path of a shard's tar."""
    return f"shards/{number:06d}.tar"


def record_path(folder: Path, number: int) -> Path:
    """Return the path of the record of a shard, which exists if the shard is whole."""
    return folder / "shards" / f"{number:06d}.json"


def read_record(folder: Path, number: int, key: str) -> dict[str, Any] | None:
    """Return the record of a finished shard made from the rows and settings of this key, or None."""
    try:
        record = read_json(record_path(folder, number))
    except (OSError, ValueError):
        return None
    tar = folder / shard_name(number)
    fits = isinstance(record, dict) and record.get("key") == key and tar.is_file()
    return record if fits and tar.stat().st_size == record["bytes"] else None


def is_whole(record_file: Path) -> bool:
    """Return True if the shard beside a record has the bytes that were written."""
    try:
        expected = read_json(record_file)["sha256"]
        return bool(sha256(record_file.with_suffix(".tar")) == expected)
    except (OSError, ValueError, TypeError, KeyError):
        return False
