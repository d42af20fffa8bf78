"""Find the rows of a long file in which the frames stand still or the audio is silent."""

from __future__ import annotations

import numpy as np

from avssl.data.health import content
from avssl.data.health.segments import Span, common_span
from avssl.media import MediaInfo, MediaReader
from avssl.media.errors import Reason
from avssl.media.pyav.packets import Packets

_SLACK_SECONDS = 0.1

_EDGE_SECONDS = 0.25
"""At the ends of a row an encoder's long windows may spread the audio of its neighbors."""

_HEADER_BYTES = 64
_STILL_PIXELS_PER_BYTE = 1024
"""Frames that repeat the one before take a header, and on average at most a byte for this many pixels, in any codec."""


class RowFaults:
    """Judges the rows of one file; call it with the start and stop of a row.

    What cannot stand still by its packets is not decoded: in a row of many bytes between keyframes, only keyframes are.

    Args:
        reader: The open file.
        info: Its header, with the streams to judge.
        packets: Its packets; None if their times are not the reader's, and then every row is decoded.
        decode: Decode samples of the row; otherwise only rows without packets have a fault.
    """

    def __init__(self, reader: MediaReader, info: MediaInfo, packets: Packets | None, *, decode: bool) -> None:
        self.reader, self.info, self.decode = reader, info, decode
        self._video = None if packets is None else packets.video
        self._video_holes: list[Span] = []
        self._audio_holes: list[Span] = []
        if packets is not None:
            span = common_span(info)
            self._video_holes = packets.video.holes(*span) if info.has_video else []
            self._audio_holes = packets.audio.holes(*span) if info.has_audio else []
        self._still_bytes = _HEADER_BYTES + (info.width or 0) * (info.height or 0) / _STILL_PIXELS_PER_BYTE

    def __call__(self, start: float, stop: float) -> Reason | None:
        """Return ``"silent"``, ``"still_picture"`` or None."""
        if _covers(self._audio_holes, start, stop) or (self.decode and self._is_silent(start, stop)):
            return "silent"
        if _covers(self._video_holes, start, stop) or (self.decode and self._is_still(start, stop)):
            return "still_picture"
        return None

    def _is_silent(self, start: float, stop: float) -> bool:
        begin, end = self.info.audio_start_seconds, self.info.audio_stop_seconds
        if begin is None or end is None:
            return False
        edge = min(_EDGE_SECONDS, (stop - start) / 8)
        return content.is_silent_span(self.reader, self.info, max(start + edge, begin), min(stop - edge, end))

    def _is_still(self, start: float, stop: float) -> bool:
        return (
            self.info.has_video
            and self._may_be_still(start, stop)
            and content.is_still_span(self.reader, self.info, start, stop)
        )

    def _may_be_still(self, start: float, stop: float) -> bool:
        """Return False if the row has large frames between keyframes that differ from each other."""
        video = self._video
        if video is None:
            return True
        inside = (video.seconds >= start) & (video.seconds < stop)
        sizes = video.num_bytes[inside & ~video.is_key]
        if not len(sizes) or sizes.mean() <= self._still_bytes:
            return True
        # The keyframes from the one at the start to the one after the end. A bit rate that is held by padding hides
        # still frames, but two of these in a row are alike then.
        keys = video.seconds[video.is_key]
        first, end = np.searchsorted(keys, start, side="right") - 1, np.searchsorted(keys, stop)
        keys = keys[max(0, int(first)) : int(end) + 1]
        pairs = {tuple(keys[:2].tolist()), tuple(keys[-2:].tolist())} if len(keys) > 1 else set()
        return any(content.are_still(self.reader, self.info, list(pair)) for pair in sorted(pairs))


def _covers(holes: list[Span], start: float, stop: float) -> bool:
    """Return True if a row lies in a hole."""
    return any(begin - _SLACK_SECONDS <= start and stop <= end + _SLACK_SECONDS for begin, end in holes)
