"""Find where the clock of an MPEG transport or program stream jumps, from samples of its own clock stamps.

Recorders that restart, and files put behind one another with ``cat``, make a stream whose clock begins again. Stamps
are read in windows spread over the file, closer together wherever the time between two does not fit the bytes between
them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from statistics import quantiles
from typing import BinaryIO, NamedTuple

# What the ffmpeg program takes for a discontinuity in these containers.
BACKWARD_SECONDS = 1.0
FORWARD_SECONDS = 10.0

_WINDOW = 2**16  # bytes read at one place; ten times that, until a stamp is found
_PLACES = 16  # at least so many; a file of fewer windows is read whole
_SPACING = 2**20  # bytes between the first places
_CLOCK_HZ = 90_000
_WRAP = 2**33
_TS_SIZES = (188, 192, 204)  # plain, with a time code (m2ts), with error correction
_MOST_BETWEEN = 2**15  # bytes before the first stamp of a recording among which its tables are looked for
_SYNC = 0x47
_TABLES = (0, 17)  # the program association and the service description table, which begin a stream
_PACK = b"\0\0\1\xba"


class Stamp(NamedTuple):
    """One clock stamp."""

    place: int
    """Byte in the file at which its packet begins."""
    clock: int
    """Identifier of the program's clock."""
    ticks: int
    """Time in 1 / 90000 s, modulo 2 ** 33."""


class Jump(NamedTuple):
    """A jump of the clock."""

    stop: int
    """Byte at which the recording before it ends."""
    start: int
    """Byte at which the recording after it begins; it is unknown to which what lies between belongs."""


class ClockScan:
    """Finds jumps of the clock in one open file.

    Args:
        file: The file, of ``size`` bytes.
        packet_size: Bytes of a transport packet; 0 for a program stream.
    """

    def __init__(self, file: BinaryIO, size: int, packet_size: int) -> None:
        self._file = file
        self._size = size
        self._packet_size = packet_size

    def jumps(self) -> list[Jump]:
        """Return the jumps of the clock, in the order of the file."""
        if self._size <= _PLACES * _WINDOW:
            return sorted(set(self._scan(0, self._size)))
        places = range(0, self._size, min(_SPACING, self._size // _PLACES))
        stamps: list[Stamp] = []
        for place in [*places, max(0, self._size - _WINDOW)]:
            stamp = self._first_after(place, stamps[-1].clock if stamps else None)
            if stamp is not None and (not stamps or stamp.place > stamps[-1].place):
                stamps.append(stamp)
        rates = [
            (after.place - before.place) / seconds
            for before, after in pairwise(stamps)
            if before.clock == after.clock and (seconds := elapsed(before, after)) > 0
        ]
        # Where a jump hides between two stamps, the rate there looks too high: most places, not all, are right.
        rate = quantiles(rates, n=4)[0] if len(rates) > 1 else 0.0
        found = [jump for before, after in pairwise(stamps) for jump in self._between(before, after, rate)]
        return sorted(set(found))

    def _between(self, before: Stamp, after: Stamp, rate: float) -> Iterator[Jump]:
        """Yield the jumps between two stamps; halve the distance where something does not fit."""
        seconds, num_bytes = elapsed(before, after), after.place - before.place
        if before.clock == after.clock and 0 <= seconds <= FORWARD_SECONDS and num_bytes <= rate * (2 * seconds + 1.5):
            return
        middle = None
        if num_bytes > _WINDOW:
            middle = self._first_after((before.place + after.place) // 2, before.clock)
        if middle is not None and before.place < middle.place < after.place:
            yield from self._between(before, middle, rate)
            yield from self._between(middle, after, rate)
            return
        yield from self._scan(before.place, after.place)

    def _scan(self, start: int, stop: int) -> Iterator[Jump]:
        """Yield the jumps in a piece of the file, from all of its stamps."""
        origin = max(0, start - _WINDOW)
        self._file.seek(origin)
        data = self._file.read(stop + _WINDOW - origin)
        clocks: dict[int, list[Stamp]] = {}
        for stamp in self._stamps(data, origin):
            clocks.setdefault(stamp.clock, []).append(stamp)
        for stamps in clocks.values():
            for one, other in pairwise(_without_outliers(stamps)):
                if start < other.place <= stop and not _continues(one, other):
                    yield self._jump(data, origin, one, other)
        # A program with a clock of its own takes over where one ends.
        spans = sorted((stamps[0], stamps[-1]) for stamps in clocks.values())
        for (_, end), (begin, _) in pairwise(spans):
            if end.place < begin.place and start < begin.place <= stop:
                yield self._jump(data, origin, end, begin)

    def _jump(self, data: bytes, origin: int, before: Stamp, after: Stamp) -> Jump:
        """Return the jump between two stamps; the first tables after the last packet of the old clock begin the new."""
        size = self._packet_size
        if not size:
            return Jump(after.place, after.place)
        found = None
        for place in range(after.place - _MOST_BETWEEN // size * size, after.place, size):
            sync = place - origin + (size == 192) * 4
            if place <= before.place or data[sync] != _SYNC:
                continue
            if struct.unpack(">H", data[sync + 1 : sync + 3])[0] & 0x1FFF in _TABLES:
                found = place if found is None else found
            elif (ticks := _start_ticks(data[sync : sync + _TS_SIZES[0]])) is not None:
                stamp = Stamp(place, before.clock, ticks)
                if abs(elapsed(before, stamp)) < abs(elapsed(after, stamp)):
                    found = None
        return Jump(before.place, after.place) if found is None else Jump(found, found)

    def _first_after(self, place: int, clock: int | None) -> Stamp | None:
        """Return the first stamp after a place, of this clock if it has one near there."""
        for factor in (1, 10, 100):
            self._file.seek(place)
            data = self._file.read(factor * _WINDOW)
            if stamps := list(self._stamps(data, place)):
                return next((stamp for stamp in stamps if stamp.clock == clock), stamps[0])
            if len(data) < factor * _WINDOW:
                break
        return None

    def _stamps(self, data: bytes, origin: int) -> Iterator[Stamp]:
        """Yield the stamps in a piece of the file."""
        return self._packet_stamps(data, origin) if self._packet_size else self._pack_stamps(data, origin)

    def _packet_stamps(self, data: bytes, origin: int) -> Iterator[Stamp]:
        size, place = self._packet_size, 0
        while place <= len(data) - size:
            if data[place] != _SYNC:
                # One damaged packet, or what follows is shifted: a torn packet, or bytes of something else.
                is_shifted = place + size < len(data) and data[place + size] != _SYNC
                place = _first_sync(data, size, place + 1) if is_shifted or not place else place + size
                continue
            adapted, length, flags = data[place + 3] & 0x20, data[place + 4], data[place + 5]
            if adapted and length >= 7 and flags & 0x10:
                clock = struct.unpack(">H", data[place + 1 : place + 3])[0] & 0x1FFF
                ticks = int.from_bytes(data[place + 6 : place + 11], "big") >> 7
                yield Stamp(origin + place - (size == 192) * 4, clock, ticks)
            place += size

    def _pack_stamps(self, data: bytes, origin: int) -> Iterator[Stamp]:
        place = data.find(_PACK)
        while 0 <= place <= len(data) - 10:
            clock = int.from_bytes(data[place + 4 : place + 9], "big")
            if clock >> 38 == 0b01:  # MPEG-2: 3, 15 and 15 bits between marker bits
                ticks = (clock >> 35 & 7) << 30 | (clock >> 19 & 0x7FFF) << 15 | clock >> 3 & 0x7FFF
                yield Stamp(origin + place, 0, ticks)
            elif clock >> 36 == 0b0010:  # MPEG-1
                ticks = (clock >> 33 & 7) << 30 | (clock >> 17 & 0x7FFF) << 15 | clock >> 1 & 0x7FFF
                yield Stamp(origin + place, 0, ticks)
            place = data.find(_PACK, place + 4)


def elapsed(before: Stamp, after: Stamp) -> float:
    """Return the seconds from one stamp to another; the wrap of the counter is no jump."""
    ticks = (after.ticks - before.ticks) % _WRAP
    return (ticks - _WRAP if ticks > _WRAP // 2 else ticks) / _CLOCK_HZ


def _continues(before: Stamp, after: Stamp) -> bool:
    return before.clock == after.clock and -BACKWARD_SECONDS <= elapsed(before, after) <= FORWARD_SECONDS


def _without_outliers(stamps: list[Stamp]) -> list[Stamp]:
    """Leave out stamps that bit errors changed: those before and after them continue each other."""
    kept = stamps[:1]
    for place, stamp in enumerate(stamps[1:], 1):
        following = stamps[place + 1] if place + 1 < len(stamps) else None
        lone = following is not None and not _continues(stamp, following) and _continues(kept[-1], following)
        if _continues(kept[-1], stamp) or not lone:
            kept.append(stamp)
    return kept


def packet_size_of(head: bytes) -> int:
    """Return the size of the transport packets that a file's first bytes show; 0 if they are none."""
    for size in _TS_SIZES:
        start = _first_sync(head, size)
        if start < min(len(head), 4 * size) and all(
            head[start + n * size] == _SYNC for n in range(5) if start + n * size < len(head)
        ):
            return size if len(head) > start + 2 * size else 0
    return 0


def is_program_stream(head: bytes) -> bool:
    """Return True if a file's first bytes are those of an MPEG program stream."""
    return head.startswith(_PACK)


def _first_sync(data: bytes, size: int, start: int = 0) -> int:
    """Return the first place from ``start`` on from which every packet begins with the sync byte."""
    place = data.find(_SYNC, start)
    while place >= 0:
        if all(data[at] == _SYNC for at in range(place, min(len(data), place + 5 * size), size)):
            return place
        place = data.find(_SYNC, place + 1)
    return len(data)


def _start_ticks(packet: bytes) -> int | None:
    """Return the presentation time that stands in a transport packet, if a frame or a piece of audio begins there."""
    payload = 5 + packet[4] if packet[3] & 0x20 else 4
    head = packet[payload : payload + 14]
    if not packet[1] & 0x40 or len(head) < 14 or head[:3] != b"\0\0\1" or not head[7] & 0x80:
        return None
    clock = int.from_bytes(head[9:14], "big")  # 3, 15 and 15 bits between marker bits
    return (clock >> 33 & 7) << 30 | (clock >> 17 & 0x7FFF) << 15 | clock >> 1 & 0x7FFF
