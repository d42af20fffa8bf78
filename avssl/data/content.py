"""A short hash of a file's content, cheap compared with decoding it.

A cache of features is valid as long as the content of its files is the same. Dates do not tell: a copied or
touched file is the same, and a file written again within a clock tick is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from avssl.core.manifest import Manifest
from avssl.data.shards.storage import RangeReader

BLOCK_BYTES = 65_536
"""Bytes of each hashed block of a large file."""
NUM_BLOCKS = 4
"""Hashed blocks of a large file: its beginning, its end and evenly spaced ones between."""

_THREADS = 8  # reading waits for the disk, and hashing releases the interpreter lock
_MAX_INDEX_BYTES = 1 << 24  # whatever the manifest declares


def content_hashes(manifest: Manifest) -> list[str]:
    """Return a hash of the content of each row's file or files, whatever their names and dates; "" if one is missing.

    * A file of up to :data:`NUM_BLOCKS` x :data:`BLOCK_BYTES` (256 KiB) is hashed whole.
    * For a larger file, its size and that many blocks are hashed. A change that keeps the size and touches none
      of them is not detected; any new encoding or cut changes the tables at the file's beginning or end.
    * For a row of a prepared corpus, its index, which lists every packet's size, and the first
      block after it are hashed, also from an object store.
    """
    if "shard_header_bytes" in manifest:
        return _prepared_hashes(manifest)
    files = [(manifest.file(row), manifest.sound_file(row)) for row in range(len(manifest))]
    hashes = _in_threads(_file_hash, sorted({file for pair in files for file in pair}))
    return [hashes[path] if path == audio else _joined(hashes[path], hashes[audio]) for path, audio in files]


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


def _in_threads(read: Callable[[Path], str], files: list[Path]) -> dict[Path, str]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(files, pool.map(read, files), strict=True))


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size <= NUM_BLOCKS * BLOCK_BYTES:
                return _digest(file.read())
            parts = [str(size).encode()]
            for number in range(NUM_BLOCKS):
                file.seek((size - BLOCK_BYTES) * number // (NUM_BLOCKS - 1))
                parts.append(file.read(BLOCK_BYTES))
            return _digest(*parts)
    except OSError:
        return ""


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
