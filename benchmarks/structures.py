"""Changes of media files that know their structure: boxes, elements, sample tables, parameter sets, packets.

Random damage is mostly noticed at once. These files stay well-formed where they are changed: the boxes around an edited
box are resized with it, the rest of the file is as it was. Each function takes a random generator and the bytes of a
file and returns the changed bytes, or None where the file has nothing of that kind.
"""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av

_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"moof", b"traf", b"udta", b"mvex"}
_TABLES = (b"stts", b"ctts", b"stco", b"co64", b"stsz", b"stsc", b"stss", b"elst", b"trun")
_HEADERS = (b"mvhd", b"mdhd", b"tkhd", b"tfdt", b"tfhd", b"trex", b"hdlr", b"stsd", b"vmhd", b"smhd")
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x00FFFFFF)
"""Numbers at the edges of the widths that formats use."""


# ---------------------------------------------------------------- ISO media (mp4, mov)


@dataclass(frozen=True)
class Box:
    """A box of an ISO file."""

    kind: bytes
    start: int
    size: int
    parents: tuple[int, ...]
    """Starts of the boxes around it, outermost first."""


def boxes(data: bytes, start: int = 0, stop: int | None = None, parents: tuple[int, ...] = ()) -> Iterator[Box]:
    """Yield all boxes in file order."""
    stop = len(data) if stop is None else stop
    while start + 8 <= stop:
        size, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        if size < 8 or start + size > stop:
            return
        yield Box(kind, start, size, parents)
        if kind in _PARENTS:
            yield from boxes(data, start + 8, start + size, (*parents, start))
        start += size


def _is_iso(data: bytes) -> bool:
    return data[4:8] in (b"ftyp", b"moov", b"wide")


def _resize(data: bytearray, starts: tuple[int, ...], by: int) -> None:
    for start in starts:
        size = int.from_bytes(data[start : start + 4], "big") + by
        data[start : start + 4] = (max(0, size) & 0xFFFFFFFF).to_bytes(4, "big")


def _pick(draw: random.Random, data: bytes, kinds: tuple[bytes, ...]) -> Box | None:
    found = [box for box in boxes(data) if box.kind in kinds]
    return draw.choice(found) if found else None


def number(draw: random.Random, old: int, bits: int = 32) -> int:
    """Return another number in place of ``old``: near it, scaled, or extreme."""
    new = draw.choice([old + 1, old - 1, old * 2, old // 2, old + draw.randint(-5000, 5000), -old, *EXTREMES[:7]])
    return draw.choice([new, new, draw.choice(EXTREMES)]) & ((1 << bits) - 1)


def box_table(draw: random.Random, data: bytes) -> bytes | None:
    """Change entries of a sample table or an edit list: one, a run of them, or their count."""
    box = _pick(draw, data, _TABLES) if _is_iso(data) else None
    if box is None or box.size < 20:
        return None
    new, body = bytearray(data), range(box.start + 16, box.start + box.size - 3, 4)
    if draw.random() < 0.15:
        body = range(box.start + 12, box.start + 13)  # the count
    first = draw.randrange(len(body))
    shift = draw.choice([0, 0, draw.randint(-(2**31), 2**31), draw.randint(-20000, 20000)])
    for place in body[first : first + draw.choice([1, 1, 2, 8, 1000])]:
        old = int.from_bytes(new[place : place + 4], "big")
        value = (old + shift) & 0xFFFFFFFF if shift else number(draw, old)
        new[place : place + 4] = value.to_bytes(4, "big")
    return bytes(new)


def box_header(draw: random.Random, data: bytes) -> bytes | None:
    """Change a field of a header box: time scales, durations, sizes, matrices, sample entries."""
    box = _pick(draw, data, _HEADERS) if _is_iso(data) else None
    if box is None:
        return None
    new = bytearray(data)
    for _ in range(draw.choice([1, 1, 3])):
        width = draw.choice([2, 4, 4])
        place = box.start + 8 + draw.randrange(max(1, box.size - 8 - width))
        old = int.from_bytes(new[place : place + width], "big")
        new[place : place + width] = number(draw, old, 8 * width).to_bytes(width, "big")
    return bytes(new)


def box_size(draw: random.Random, data: bytes) -> bytes | None:
    """Change the size of a box, with or without the boxes around it."""
    found = list(boxes(data)) if _is_iso(data) else []
    if not found:
        return None
    box, new = draw.choice(found), bytearray(data)
    size = number(draw, box.size)
    new[box.start : box.start + 4] = size.to_bytes(4, "big")
    if draw.random() < 0.5:
        _resize(new, box.parents, size - box.size)
    return bytes(new)


def box_move(draw: random.Random, data: bytes) -> bytes | None:
    """Remove a box, repeat it, or exchange it with its neighbor; the boxes around it are resized."""
    found = [box for box in boxes(data) if box.kind != b"mdat"] if _is_iso(data) else []
    if not found:
        return None
    box, new = draw.choice(found), bytearray(data)
    stop = box.start + box.size
    whole, how = bytes(data[box.start : stop]), draw.choice(["remove", "repeat", "free", "exchange"])
    if how == "remove":
        del new[box.start : stop]
        _resize(new, box.parents, -box.size)
    elif how == "repeat":
        new[stop:stop] = whole
        _resize(new, box.parents, box.size)
    elif how == "free":
        new[box.start + 4 : box.start + 8] = b"free"
    else:
        after = int.from_bytes(data[stop : stop + 4], "big")
        new[box.start : stop + after] = data[stop : stop + after] + whole
    return bytes(new)


def aspect(draw: random.Random, data: bytes) -> bytes | None:
    """Give the first video sample entry another pixel aspect ratio."""
    box = next((b for b in boxes(data) if b.kind == b"stsd" and b"pasp" not in data[b.start : b.start + b.size]), None)
    if box is None or not _is_iso(data) or data[box.start + 20 : box.start + 24] not in (b"avc1", b"jpeg", b"hvc1"):
        return None
    ratio = [draw.choice([1, 2, 3, 16, 300, 5000, 0, 2**31 - 1, 2**32 - 1]) for _ in range(2)]
    entry, new = box.start + 16, bytearray(data)
    stop = entry + int.from_bytes(data[entry : entry + 4], "big")
    new[stop:stop] = struct.pack(">I4sII", 16, b"pasp", *ratio)
    _resize(new, (*box.parents, box.start, entry), 16)
    return bytes(new)


# ---------------------------------------------------------------- Matroska, WebM

_MASTERS = {0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0xAE, 0xE0, 0xE1, 0xA0, 0x1C53BB6B, 0xBB, 0xB7, 0x1A45DFA3}
_UNKNOWN = (1 << 56) - 1


@dataclass(frozen=True)
class Element:
    """An EBML element: where it starts, where its size stands, and its content."""

    code: int
    start: int
    size_at: int
    body: int
    stop: int


def _vint(data: bytes, place: int, keep: bool) -> tuple[int, int]:
    """Return the value and length of a number with a length marker."""
    if place >= len(data) or data[place] == 0:
        return 0, 0
    length = 9 - data[place].bit_length()
    value = int.from_bytes(data[place : place + length], "big")
    return value if keep else value & ((1 << 7 * length) - 1), length


def elements(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[Element]:
    """Yield all elements in file order."""
    stop = len(data) if stop is None else stop
    while start < stop:
        code, code_length = _vint(data, start, keep=True)
        size, size_length = _vint(data, start + code_length, keep=False)
        if not code_length or not size_length:
            return
        body = start + code_length + size_length
        end = min(stop, body + size)
        yield Element(code, start, start + code_length, body, end)
        if code in _MASTERS:
            yield from elements(data, body, end)
        start = end


def element_size(draw: random.Random, data: bytes) -> bytes | None:
    """Change the size of an element, also to "unknown"."""
    found = list(elements(data)) if data[:4] == b"\x1a\x45\xdf\xa3" else []
    if not found:
        return None
    element, new = draw.choice(found), bytearray(data)
    length = element.body - element.size_at
    limit = (1 << 7 * length) - 1
    size = draw.choice([number(draw, element.stop - element.body), _UNKNOWN]) & limit
    new[element.size_at : element.body] = (size | 1 << 7 * length).to_bytes(length, "big")
    return bytes(new)


def element_body(draw: random.Random, data: bytes) -> bytes | None:
    """Change the value of a small element: scales, times, sizes, rates; or the head of a block."""
    found = list(elements(data)) if data[:4] == b"\x1a\x45\xdf\xa3" else []
    small = [e for e in found if e.code not in _MASTERS and 0 < e.stop - e.body <= 8]
    blocks = [e for e in found if e.code in (0xA3, 0xA1)]
    if not small:
        return None
    new = bytearray(data)
    for _ in range(draw.choice([1, 1, 4])):
        element = draw.choice(draw.choice([small, small, blocks or small]))
        width = min(4, element.stop - element.body)
        old = int.from_bytes(data[element.body : element.body + width], "big")
        new[element.body : element.body + width] = number(draw, old, 8 * width).to_bytes(width, "big")
    return bytes(new)


def element_move(draw: random.Random, data: bytes) -> bytes | None:
    """Remove or repeat an element of the segment, without resizing what is around it."""
    found = [e for e in elements(data) if e.code not in (0x18538067, 0x1A45DFA3)]
    if data[:4] != b"\x1a\x45\xdf\xa3" or not found:
        return None
    element, new = draw.choice(found), bytearray(data)
    whole = data[element.start : element.stop]
    new[element.start : element.stop] = draw.choice(
        [b"", whole + whole, b"\xec" + data[element.size_at : element.stop]]
    )
    return bytes(new)


# ---------------------------------------------------------------- H.264 parameter sets


def parameter_sets(draw: random.Random, data: bytes) -> bytes | None:
    """Change bits of a sequence parameter set: profile, size, depth, reference frames, timing."""
    starts = [i + 4 for i in _find(data, b"\x00\x00\x00\x01") if i + 4 < len(data) and data[i + 4] & 0x1F == 7]
    place = data.find(b"avcC")
    if place >= 0 and place + 13 < len(data):  # version, profile, compatibility, level, length, count, size of the set
        starts.append(place + 12)
    if not starts:
        return None
    new = bytearray(data)
    chosen = starts if draw.random() < 0.3 else [draw.choice(starts)]
    bits = [draw.randrange(8, 8 * 20) for _ in range(draw.choice([1, 1, 2, 4]))]
    for start in chosen:
        for bit in bits:
            if start + bit // 8 < len(new):
                new[start + bit // 8] ^= 0x80 >> bit % 8
    return bytes(new)


def _find(data: bytes, what: bytes) -> Iterator[int]:
    place = data.find(what)
    while place >= 0:
        yield place
        place = data.find(what, place + 1)


# ---------------------------------------------------------------- packets


_MUXERS = {"mov": "mp4"}


def packets(draw: random.Random, data: bytes) -> bytes | None:
    """Write the file again with the same codecs and container, and packets that are late, gone, empty or exchanged."""
    try:
        with av.open(io.BytesIO(data)) as source:
            kind = source.format.name.split(",")[0]
            output = io.BytesIO()
            same = {"fflags": "+bitexact"}  # without random track numbers
            with av.open(output, "w", format=_MUXERS.get(kind, kind), options=same) as sink:
                streams = {s.index: sink.add_stream_from_template(s) for s in source.streams}
                for packet in _changed(draw, [p for p in source.demux() if p.size and p.dts is not None]):
                    packet.stream = streams[packet.stream_index]
                    sink.mux_one(packet)
    except (av.FFmpegError, ValueError, OverflowError):
        return None
    return output.getvalue()


def _changed(draw: random.Random, found: list[Any]) -> list[Any]:
    """Return packets after one change of their times or order."""
    how = draw.choice(["jump", "hole", "drop", "exchange", "repeat", "late", "keys"])
    cut = draw.randrange(len(found)) if found else 0
    if how == "jump":  # the clock goes on elsewhere, in both streams
        seconds = draw.choice([3, 60, 3600, 90_000])
        for packet in found[cut:]:
            _shift(packet, seconds)
    elif how == "late":  # one stream is late from here on
        index = draw.choice(found).stream_index
        for packet in found[cut:]:
            if packet.stream_index == index:
                _shift(packet, draw.choice([0.2, 1.0]))
    elif how == "hole":
        found = found[:cut] + found[cut + draw.choice([3, 10, 30]) :]
    elif how == "drop":
        found = [packet for packet in found if draw.random() > 0.2]
    elif how == "exchange":
        for i in range(0, len(found) - 1, 2):
            one, other = found[i], found[i + 1]
            if one.stream_index == other.stream_index:
                one.pts, other.pts = other.pts, one.pts
    elif how == "repeat":
        found = found[:cut] + [p for p in found[cut:] for _ in range(2)]
    else:
        for packet in found:
            packet.is_keyframe = draw.random() < 0.5
    return found


def _shift(packet: Any, seconds: float) -> None:
    ticks = round(seconds / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts + ticks
    packet.dts = None if packet.dts is None else packet.dts + ticks


CHANGES = (
    *(box_table, box_table, box_table, box_header, box_header, box_size, box_move, aspect),
    *(element_size, element_body, element_body, element_move, parameter_sets, parameter_sets, packets),
)
"""All kinds of changes, the common ones several times."""


def changed(draw: random.Random, data: bytes) -> bytes:
    """Apply one or two changes that fit the file; return it unchanged if none fits."""
    for _ in range(draw.choice([1, 1, 1, 2])):
        for change in draw.sample(CHANGES, len(CHANGES)):
            new = change(draw, data)
            if new is not None and new != data:
                data = new
                break
    return data
