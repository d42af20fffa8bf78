"""What a file holds, as a short hash that is cheap beside decoding it.

A cache of features is good as long as its files hold the same; their dates say little: a copied or
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
"""Bytes hashed at each place of a large file."""
NUM_BLOCKS = 4
"""Places in a large file: its beginning, its end and evenly spaced ones between."""

_THREADS = 8  # reading waits for the disk, and hashing releases the interpreter
_MAX_INDEX_BYTES = 1 << 24  # whatever a manifest says


def content_hashes(manifest: Manifest) -> list[str]:
    """A hash of what each row's file holds, whatever its name and date; "" where there is no file.

    * A file of up to :data:`NUM_BLOCKS` x :data:`BLOCK_BYTES` (256 KiB) is hashed whole.
    * Of a larger one, its size and that many blocks are. A change that keeps the size and touches none
      of them stays unseen; any new encoding or cut changes the tables at the file's beginning or end.
    * A row of a prepared corpus is hashed as its index, which lists every packet's size, and the first
      block behind it, also from an object store.

    Args:
        manifest: Its rows; rows of the same file have the same hash.
    """
    if "shard_header_bytes" in manifest:
        return _prepared_hashes(manifest)
    files = [manifest.file(row) for row in range(len(manifest))]
    found = _in_threads(_file_hash, sorted(set(files)))
    return [found[file] for file in files]


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
