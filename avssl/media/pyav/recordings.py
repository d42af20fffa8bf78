"""Find the recordings in a file that holds several behind one another, as byte ranges.

``cat`` joins files of any kind, recorders append to a file and restart their clock. FFmpeg shows the first recording of
such a file, or mixes the clocks of all. Each is opened by itself instead.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from avssl.core.user_files import open_regular
from avssl.media.errors import MediaError
from avssl.media.pyav.declared_size import ebml_number
from avssl.media.pyav.program_clock import ClockScan, Jump, is_program_stream, packet_size_of

_HEAD = 4096
_LEAST_BYTES = 2048  # what is shorter is no recording
_MAX_RECORDINGS = 1000
_MAX_BOXES = 100_000
_EBML, _SEGMENT = bytes.fromhex("1a45dfa3"), bytes.fromhex("18538067")
# Headers of containers that do not say where they end.
_FLV = re.compile(rb"FLV\x01[\0\x01\x04\x05]\0\0\0\x09\0\0\0\0")
_NUT = re.compile(rb"nut/multimedia container\0")
_ASF = re.compile(re.escape(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")))
_LIVE_EBML = re.compile(rb"\x1a\x45\xdf\xa3(?=.{0,48}(?:matroska|webm))", re.DOTALL)
_OGG_FIRST = re.compile(rb"OggS\0[\x02\x06].{8}(.{4})\0\0\0\0", re.DOTALL)


class ByteRange(NamedTuple):
    """A part of a file."""

    start: int
    stop: int


def find_recordings(path: Path) -> tuple[ByteRange, ...]:
    """Return the byte range of each recording in a file, ascending; one for an ordinary file.

    Only headers are read, and clock stamps of MPEG transport and program streams. The result is kept while the file
    does not change.

    Raises:
        MediaError: If there are more recordings than any file has.
    """
    status = os.stat(path)
    found = _find(os.path.abspath(path), status.st_size, status.st_mtime_ns)
    if len(found) > _MAX_RECORDINGS:
        text = f"it holds more than {_MAX_RECORDINGS} recordings, or its clock is damaged."
        raise MediaError(str(path), "container", "unreadable", text, "Convert the file, for example to H.264 + AAC.")
    return found


@lru_cache(maxsize=4096)
def _find(path: str, size: int, modified_ns: int) -> tuple[ByteRange, ...]:
    """Find recordings; the time of the last change is part of the key."""
    with open_regular(path) as file:
        head = file.read(_HEAD)
        finder = _finder(head)
        jumps = [] if finder is None else sorted(set(islice(finder(file, size), _MAX_RECORDINGS)))
    found: list[ByteRange] = []
    start = 0
    for jump in jumps:
        if jump.stop - start >= _LEAST_BYTES and jump.start < size:
            found.append(ByteRange(start, jump.stop))
            start = jump.start
    return (*found, ByteRange(start, size))


def _finder(head: bytes) -> Callable[[BinaryIO, int], Iterable[Jump]] | None:
    """Return the function that finds where further recordings begin in a container of this kind."""
    if is_program_stream(head):
        return lambda file, size: ClockScan(file, size, 0).jumps()
    starts = _starts(head)
    if starts is not None:
        return lambda file, size: (Jump(start, start) for start in starts(file, size))
    if packet_size := packet_size_of(head):
        return lambda file, size: ClockScan(file, size, packet_size).jumps()
    return None


def _starts(head: bytes) -> Callable[[BinaryIO, int], Iterator[int]] | None:
    """Return the function that finds further headers of a container with these first bytes."""
    if head[4:8] == b"ftyp":
        return _iso_starts
    if head.startswith(_EBML):
        return _ebml_starts
    if head.startswith(b"RIFF"):
        return _riff_starts
    if head.startswith(b"OggS"):
        return _ogg_starts
    for pattern in (_FLV, _ASF, _NUT):
        if pattern.match(head):
            return lambda file, size: _matches(file, pattern)
    return None


def _iso_starts(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield where a file type box follows a whole movie."""
    place, has_movie = 0, False
    for _ in range(_MAX_BOXES):
        if place >= size - 8:
            return
        file.seek(place)
        head = file.read(16)
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        if kind == b"ftyp" and has_movie:
            yield place
            has_movie = False
        has_movie |= kind == b"moov"
        if length < 8:  # 0: up to the end of the file
            return
        place += length


def _riff_starts(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield where another list begins; a long AVI goes on in lists of the kind AVIX."""
    place = 0
    for _ in range(_MAX_BOXES):
        if place >= size - 12:
            return
        file.seek(place)
        head = file.read(12)
        if head[:4] != b"RIFF":
            return
        if place and head[8:] != b"AVIX":
            yield place
        length = struct.unpack("<I", head[4:8])[0]
        place += 8 + length + length % 2


def _ebml_starts(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield where another header follows a segment; a live segment has no size, so headers are searched."""
    place = 0
    for _ in range(_MAX_RECORDINGS):
        if place >= size - 8:
            return
        file.seek(place)
        if file.read(4) != _EBML:
            return
        if place:
            yield place
        length = ebml_number(file)
        file.seek(file.tell() + min(length or 0, _HEAD))
        if file.read(4) != _SEGMENT:
            return
        length = ebml_number(file)
        if length is None:
            yield from (start for start in _matches(file, _LIVE_EBML) if start > place)
            return
        place = file.tell() + length


def _ogg_starts(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield where first pages of streams follow other pages."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        firsts = [match.start() for match in _OGG_FIRST.finditer(data)]
        for before, start in pairwise(firsts):
            if _ogg_page_stop(data, before) != start:
                yield start


def _ogg_page_stop(data: mmap.mmap, start: int) -> int:
    count = data[start + 26] if start + 26 < len(data) else 0
    return start + 27 + count + sum(data[start + 27 : start + 27 + count])


def _matches(file: BinaryIO, pattern: re.Pattern[bytes]) -> Iterator[int]:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield from (match.start() for match in pattern.finditer(data) if match.start())
