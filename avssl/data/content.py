"""A short hash of a file's content, cheap compared with decoding it.

A cache of features is valid as long as the content of its files is the same. Dates do not tell: a copied or
touched file is the same, and a file written again within a clock tick is not.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from avssl.core.manifest import Manifest
from avssl.core.user_files import open_regular
from avssl.data.packed.members import is_member, members_of
from avssl.data.shards.storage import RangeReader

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

BLOCK_BYTES = 65_536
"""Bytes of each hashed block of a large file."""
NUM_BLOCKS = 4
"""Hashed blocks of a large file: its beginning, its end and evenly spaced ones between."""

_THREADS = 8  # reading waits for the disk, and hashing releases the interpreter lock
_CHUNK = 64
_ENDS_BYTES = 4096
_MAX_INDEX_BYTES = 1 << 24  # whatever the manifest declares


def content_hashes(manifest: Manifest) -> list[str]:
    """Return a hash of the content of each row's file or files, whatever their names and dates; "" if one is missing.

    * A file of up to :data:`NUM_BLOCKS` x :data:`BLOCK_BYTES` (256 KiB) is hashed whole.
    * For a larger file, its size and that many blocks are hashed. A change that keeps the size and touches none
      of them is not detected; any new encoding or cut changes the tables at the file's beginning or end.
    * A media file inside an archive is hashed in the same way, also from an object store.
    * For a row of a prepared corpus, its index, which lists every packet's size, and the first
      block after it are hashed, also from an object store.
    """
    if "shard_header_bytes" in manifest:
        return _prepared_hashes(manifest)
    found = _member_hashes(manifest)
    files = {row: (manifest.file(row), manifest.sound_file(row)) for row in range(len(manifest)) if row not in found}
    names = sorted({file for pair in files.values() for file in pair})
    hashes = dict(zip(names, in_threads(file_hash, names), strict=True))
    for row, (path, audio) in files.items():
        found[row] = hashes[path] if path == audio else _joined(hashes[path], hashes[audio])
    return [found[row] for row in range(len(manifest))]


def same_content(files: Sequence[Path | None]) -> list[int]:
    """Return for each file the position of the first one that is the same file, or has the same content.

    Links are found by device and inode. Only files of equal size are read, first 4 KiB at both ends, and those that
    are equal there as in :func:`content_hashes`. None, and what is no readable file, equals nothing else.
    """
    stats = dict(enumerate(in_threads(_stat, files)))
    keys: dict[int, Hashable] = {place: file.key for place, file in stats.items() if file is not None}
    same_file = _firsts(keys)
    left = sorted(set(same_file.values()))
    reads: tuple[Callable[[_File], str], ...] = (_size, _ends_hash, lambda file: file_hash(file.path))
    for read in reads:
        found = [file for place in left if (file := stats[place]) is not None]
        keys = dict(zip(left, in_threads(read, found), strict=True))
        counts = Counter(keys.values())
        left = [place for place in left if keys[place] and counts[keys[place]] > 1]
    same_bytes = _firsts({place: keys[place] for place in left})
    firsts = [same_file.get(place, place) for place in range(len(files))]
    return [same_bytes.get(place, place) for place in firsts]


def _firsts(keys: Mapping[int, Hashable]) -> dict[int, int]:
    """Return for each place the first one of the same key."""
    first: dict[Hashable, int] = {}
    return {place: first.setdefault(key, place) for place, key in keys.items()}


@dataclass(frozen=True)
class _File:
    """A regular file that is not empty."""

    path: Path
    key: tuple[int, int]
    size: int


def _stat(path: Path | None) -> _File | None:
    try:
        status = None if path is None else os.stat(path)
    except (OSError, ValueError):
        return None
    if path is None or status is None or not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    return _File(path, (status.st_dev, status.st_ino), status.st_size)


def _size(file: _File) -> str:
    return str(file.size)


def _ends_hash(file: _File) -> str:
    try:
        with open_regular(file.path) as opened:
            first = opened.read(_ENDS_BYTES)
            opened.seek(max(0, file.size - _ENDS_BYTES))
            return _digest(str(file.size).encode(), first, opened.read(_ENDS_BYTES))
    except OSError:
        return ""


def _joined(path: str, audio: str) -> str:
    """Return the hash of an image or video with the audio of another file."""
    return _digest(path.encode(), audio.encode()) if path and audio else ""


def _prepared_hashes(manifest: Manifest) -> list[str]:
    shards = RangeReader()

    def read(row: int) -> str:
        offset, header_bytes = (int(manifest.value(row, name) or 0) for name in ("shard_offset", "shard_header_bytes"))
        try:
            size = min(header_bytes, _MAX_INDEX_BYTES) + BLOCK_BYTES
            return _digest(shards.read(manifest.location(row), offset, size))
        except OSError:
            return ""

    # One at a time: the reader holds few open files and closes the oldest, which another thread may be reading.
    hashes = [read(row) for row in range(len(manifest))]
    shards.close()
    return hashes


def _member_hashes(manifest: Manifest) -> dict[int, str]:
    """Return the hash of each row whose media lie inside an archive, by its position."""
    ranges, hashes = RangeReader(), {}
    for row in (row for row in range(len(manifest)) if is_member(manifest, row)):
        read = partial(ranges.read, manifest.location(row))
        try:
            each = [_hash(size, partial(_read_at, read, offset)) for offset, size in members_of(manifest, row)]
        except OSError:
            each = [""]
        hashes[row] = each[0] if len(each) == 1 else _joined(each[0], each[1])
    ranges.close()
    return hashes


def _read_at(read: Callable[[int, int], bytes], first: int, offset: int, size: int) -> bytes:
    return read(first + offset, size)


def in_threads(read: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Return ``read`` of each item, in their order; for functions that wait for a disk."""
    # Many at a time: handing over an item costs more than asking a local disk for a file's size.
    chunks = [items[first : first + _CHUNK] for first in range(0, len(items), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [result for results in pool.map(lambda chunk: list(map(read, chunk)), chunks) for result in results]


def file_hash(path: Path) -> str:
    """Return the hash of one file, as in :func:`content_hashes`; "" if it cannot be read."""
    try:
        with open_regular(path) as file:
            return _hash(os.fstat(file.fileno()).st_size, partial(_pread, file))
    except OSError:
        return ""


def _pread(file: BinaryIO, offset: int, size: int) -> bytes:
    return os.pread(file.fileno(), size, offset)


def _hash(size: int, read: Callable[[int, int], bytes]) -> str:
    """Return the hash of the content that ``read`` returns parts of, by offset and size."""
    if size <= NUM_BLOCKS * BLOCK_BYTES:
        return _digest(read(0, size))
    offsets = [(size - BLOCK_BYTES) * number // (NUM_BLOCKS - 1) for number in range(NUM_BLOCKS)]
    return _digest(str(size).encode(), *(read(offset, BLOCK_BYTES) for offset in offsets))


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
