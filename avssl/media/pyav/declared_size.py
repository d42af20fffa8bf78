"""Compare a file's size with the sizes that its container declares: a shorter file was cut off.

ISO media (mp4, mov), Matroska (mkv, webm), RIFF (avi, wav) and ASF (wmv) declare how large their parts are.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from avssl.core.user_files import open_regular

_MAX_PARTS = 100_000  # days of a fragmented mp4
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_EBML, _SEGMENT = bytes.fromhex("1a45dfa3"), bytes.fromhex("18538067")
_ISO_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")


def missing_bytes(path: Path) -> int:
    """Return the number of bytes missing at the file's end; 0 if none are missing or no size is declared."""
    size = path.stat().st_size
    with open_regular(path) as file:
        head = file.read(16)
        if head[4:8] in _ISO_FIRST:
            declared = _iso_size(file, size)
        elif head[:4] == b"RIFF":
            declared = _riff_size(file, size)
        elif head == _ASF_HEADER:
            declared = _asf_size(file)
        elif head[:4] == _EBML:
            declared = _matroska_size(file)
        else:
            declared = 0
    return max(0, declared - size)


def _iso_size(file: BinaryIO, size: int) -> int:
    """Return the end of the last box with media or their index. Each box begins with its own size."""
    place = end = 0
    for _ in range(_MAX_PARTS):
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        if length < 8 or not kind.isalnum():  # 0: up to the end of the file; else no box
            break
        place += length
        if kind in (b"mdat", b"moov", b"moof"):
            end = place
        if place >= size:
            break
    return end


def _riff_size(file: BinaryIO, size: int) -> int:
    """Return the end of the last RIFF list; a long avi has several. A size of 0 or all ones was never filled in."""
    place = 0
    for _ in range(_MAX_PARTS):
        file.seek(place)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            break
        length = struct.unpack("<I", head[4:])[0]
        if length in (0, 2**32 - 1):
            return 0
        place += 8 + length + length % 2
    return place - 1 if place == size + 1 else place  # the last padding byte may be left out


def _asf_size(file: BinaryIO) -> int:
    """Return the file size in the file properties object. A broadcast leaves it 0."""
    file.seek(0)
    head = file.read(2**16)
    place = head.find(_ASF_FILE_PROPERTIES)
    if place < 0 or place + 48 > len(head):
        return 0
    declared: int = struct.unpack("<Q", head[place + 40 : place + 48])[0]
    return declared


def _matroska_size(file: BinaryIO) -> int:
    """Return the end of the segment, which follows the EBML header and holds everything; all ones: unknown."""
    file.seek(4)
    length = ebml_number(file)
    if length is None:
        return 0
    file.seek(file.tell() + min(length, 2**16))
    if file.read(4) != _SEGMENT or (length := ebml_number(file)) is None:
        return 0
    return file.tell() + length


def ebml_number(file: BinaryIO) -> int | None:
    """Read a size of 1 to 8 bytes, given by the zero bits before the first one; None if missing or unknown."""
    first = file.read(1)
    width = 9 - first[0].bit_length() if first else 9
    rest = file.read(width - 1) if width <= 8 else b""
    if width > 8 or len(rest) < width - 1:
        return None
    number = int.from_bytes(first + rest, "big") & (1 << 7 * width) - 1
    return None if number == (1 << 7 * width) - 1 else number
