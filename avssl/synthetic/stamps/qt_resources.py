"""Read the files in a Qt resource file (``.rcc``), in which GCompris keeps its images and audio.

Source: the format of ``rcc --binary``, https://doc.qt.io/qt-6/resources.html. A header points to a tree of nodes, to
the names of the nodes in UTF-16, and to the contents.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator

from avssl.core.errors import InputError
from avssl.core.user_files import read_bytes

_MAX_BYTES = 2**27
_MAX_NODES = 100_000
_COMPRESSED, _FOLDER, _ZSTD = 1, 2, 4


def read_resources(
    path: str | os.PathLike[str], is_wanted: Callable[[str], bool], max_bytes: int = _MAX_BYTES
) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the wanted files in a resource file.

    Args:
        path: The resource file.
        is_wanted: Called with the name of each file, such as ``gcompris/src/activities/melody/resource/knock.wav``.
        max_bytes: Largest resource file, and largest content.

    Raises:
        InputError: If it is no resource file, or damaged.
        FileError: If it is missing, no regular file, or too large.
    """
    data = read_bytes(path, max_bytes)
    try:
        nodes = list(_files(data))
        for name, flags, start in nodes:
            if is_wanted(name):
                yield name, _content(data, flags, start, max_bytes)
    except (struct.error, UnicodeDecodeError, zlib.error, ValueError) as error:
        raise InputError(
            f"{os.fspath(path)}: not a Qt resource file, or damaged ({error}). Unpack the package again."
        ) from error


def _files(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield (name, flags, start of the content) of every file."""
    magic, version, tree, contents, names = struct.unpack_from(">4s4I", data)
    if magic != b"qres" or not 1 <= version <= 3:
        raise ValueError(f"it begins with {data[:8]!r}")
    node_bytes = 22 if version >= 2 else 14  # later versions add the time of the last change
    waiting, count = [(0, "")], 0
    while waiting:
        number, parent = waiting.pop()
        count += 1
        if count > _MAX_NODES:
            raise ValueError(f"it has more than {_MAX_NODES} nodes")
        name_at, flags = struct.unpack_from(">IH", data, tree + number * node_bytes)
        (length,) = struct.unpack_from(">H", data, names + name_at)
        name = data[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be") if number else ""
        here = f"{parent}/{name}".strip("/")
        if flags & _FOLDER:
            children, first = struct.unpack_from(">II", data, tree + number * node_bytes + 6)
            if children > _MAX_NODES:
                raise ValueError(f"it has more than {_MAX_NODES} nodes")
            waiting += [(first + k, here) for k in reversed(range(children))]
        else:
            (start,) = struct.unpack_from(">I", data, tree + number * node_bytes + 10)
            yield here, flags, contents + start


def _content(data: bytes, flags: int, start: int, max_bytes: int) -> bytes:
    (length,) = struct.unpack_from(">I", data, start)
    content = data[start + 4 : start + 4 + length]
    if len(content) != length:
        raise ValueError("it is cut off")
    if flags & _ZSTD:
        raise ValueError("it is compressed with Zstandard, which is not read here")
    if not flags & _COMPRESSED:
        return content
    unpacked = zlib.decompressobj().decompress(content[4:], max_bytes)  # after four bytes with the size
    if len(unpacked) >= max_bytes:
        raise ValueError(f"a file in it is larger than {max_bytes} bytes")
    return unpacked
