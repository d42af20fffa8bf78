"""Tell keyframes that stand alone from frames that containers call keyframes although others reach across them.

H.264 and HEVC mark the former as IDR. With an open GOP or intra refresh, frames after a "keyframe" still refer to
frames before it, and a decoder that starts there shows nothing, later frames or wrong ones for a while.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from avssl.media.pyav.source import Source

# Codec → (shift and mask of the unit's type in its first byte, types of a slice, types of a slice of an IDR frame).
_UNITS = {"h264": (0, 0x1F, range(1, 6), (5,)), "hevc": (1, 0x3F, range(32), (19, 20))}
_LENGTH_SIZE_AT = {"h264": 4, "hevc": 21}  # byte of the decoder's configuration that holds the size of lengths


def stand_alone(source: Source, index: int) -> bool:
    """Return True if every keyframe of a stream can be decoded without frames before it, and so can what follows.

    Reads all packets of the stream. Codecs other than H.264 and HEVC count as True.
    """
    codec = source.stream(index).codec_context.name
    if codec not in _UNITS:
        return True
    configuration = bytes(source.stream(index).codec_context.extradata or b"")
    packets = source.packets(index, None)
    return all(_is_idr(bytes(packet), codec, configuration) for packet in packets if packet.size and packet.is_keyframe)


def _is_idr(data: bytes, codec: str, configuration: bytes) -> bool:
    """Return True if the first slice of a packet belongs to an IDR frame."""
    shift, mask, slices, idr = _UNITS[codec]
    for start in _unit_starts(data, codec, configuration):
        kind = data[start] >> shift & mask
        if kind in slices:
            return kind in idr
    return False


def _unit_starts(data: bytes, codec: str, configuration: Any) -> Iterator[int]:
    """Yield where each unit of a packet starts: after its length, or after a start code."""
    at = _LENGTH_SIZE_AT[codec]
    if len(configuration) > at and configuration[0] == 1:
        width, place = (configuration[at] & 3) + 1, 0
        while place + width < len(data):
            yield place + width
            place += width + int.from_bytes(data[place : place + width], "big")
        return
    place = data.find(b"\0\0\1")
    while 0 <= place < len(data) - 3:
        yield place + 3
        place = data.find(b"\0\0\1", place + 3)
