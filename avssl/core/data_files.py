"""Read JSON, NPZ and checkpoint files that may come from strangers.

Nothing in them is run, what they declare is compared with what they hold before memory is taken, and a key that stands
twice is an error, as one of the two values would be lost.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import IO, Any

import numpy as np

from avssl.core.user_files import FileError, open_regular, read_text, regular_file

MAX_JSON_BYTES = 2**28
"""Largest JSON file that is read."""
_MOST_EXPANSION = 1032  # of DEFLATE
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_json(path: str | os.PathLike[str], max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Return the content of a JSON file.

    Raises:
        FileError: If it is not JSON, a key stands twice in one object, or it is no file of at most ``max_bytes``.
        OSError: If it may not be read.
    """
    try:
        return parse_json(read_text(path, max_bytes))
    except FileError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileError(f"{os.fspath(path)}: not JSON ({error}).") from error


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text; raise ValueError or RecursionError if it is none, or a key stands twice."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {name!r} stands {count} times in one object")
    return found


def read_arrays(path: str | os.PathLike[str], max_bytes: int | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of a file of ``numpy.savez`` or ``numpy.savez_compressed``; objects are never unpickled.

    Args:
        path: The file.
        max_bytes: Largest size of all arrays; default: that of the file, so nothing in it may be compressed.

    Raises:
        FileError: If it is not such a file, an array is larger than declared or allowed, or a name stands twice.
        OSError: If it may not be read.
    """
    arrays: dict[str, np.ndarray] = {}
    with open_regular(path, max_bytes) as file:
        left = os.fstat(file.fileno()).st_size if max_bytes is None else max_bytes
        try:
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    name = member.filename.removesuffix(".npy")
                    if name in arrays:
                        raise ValueError(f"the array {name!r} stands twice")
                    arrays[name] = _read_array(archive, member, left)
                    left -= arrays[name].nbytes
        except Exception as error:  # zipfile, zlib and numpy raise many kinds; all mean that the file is damaged
            raise FileError(f"{os.fspath(path)}: not a file of NumPy arrays ({error}).") from error
    return arrays


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int) -> np.ndarray:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is compressed in a way that NumPy does not write")
    if member.file_size > _MOST_EXPANSION * member.compress_size + 64:
        raise ValueError(f"{member.filename} claims {member.file_size} bytes, packed into {member.compress_size}")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _NPY_HEADERS:
            raise ValueError(f"{member.filename} has the NPY version {version}")
        shape, is_fortran, dtype = _NPY_HEADERS[version](stream)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, which are never unpickled")
        count = math.prod(shape)
        if not 0 <= max(count, count * dtype.itemsize) <= max_bytes or min(shape, default=0) < 0:
            raise ValueError(f"{member.filename} claims a shape of {shape}; at most {max_bytes} bytes are read")
        data = _read_exactly(stream, count * dtype.itemsize, member.filename)
    return np.ndarray(shape, dtype, buffer=data, order="F" if is_fortran else "C")


def _read_exactly(stream: IO[bytes], num_bytes: int, name: str) -> bytearray:
    data = bytearray(num_bytes)
    place = 0
    while place < num_bytes and (read := stream.readinto(memoryview(data)[place:])):  # type: ignore[attr-defined]
        place += read
    if place < num_bytes or stream.read(1):
        raise ValueError(f"{name} holds another number of bytes than the {num_bytes} of its shape")
    return data


def torch_file(path: str | os.PathLike[str], max_bytes: int | None = None) -> Path:
    """Return the path of a file of ``torch.save``, which packs nothing, for ``torch.load(path, weights_only=True)``.

    Args:
        path: The file, in the new or the old format.
        max_bytes: Largest file; None for any.

    Raises:
        FileError: If it is no file, larger, or packed, so that it would take more memory than its size.
        OSError: If it may not be read.
    """
    found = regular_file(path, max_bytes)
    with open_regular(found) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
        except Exception:  # the old format, or damaged, as torch.load says; zipfile raises many kinds
            return found
        size = os.fstat(file.fileno()).st_size
    if unpacked > size:
        raise FileError(f"{os.fspath(path)}: {size} bytes unpack to {unpacked}, but torch.save packs nothing.")
    return found
