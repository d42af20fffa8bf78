"""Find the frame shown at each time, decoding only what those frames need.

The packets' timestamps tell beforehand which frame is shown when, so the decoder can skip frames that are neither
requested nor referred to by others (two of three B-frames of an ordinary H.264 file), and stop after the last
requested one. The result equals that of decoding everything, bit for bit.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from avssl.core.errors import AvsslError
from avssl.media.pyav.sequential_decoder import BACK_SECONDS, BLIND_SEEK_SECONDS
from avssl.media.pyav.source import Source

# Codecs for which FFmpeg's AVDISCARD_NONREF skips exactly the frames that no other frame is predicted from: by
# nal_ref_idc, or B-frames where the standard forbids references to them. Not HEVC: a skipped frame may serve a higher
# temporal layer. VP8, VP9 and AV1 carry on their entropy coder's state.
_SKIPS = {"h264", "mpeg4", "mpeg2video", "mpeg1video"}
_PROGRESSIVE = (0, 1)  # unknown or progressive; a field may have a packet of its own
_NEAR_FRAMES = 2  # decoding this many frames costs no more than seeking
_MAX_REORDERED = 16  # no codec shows a frame earlier than more than this many frames decoded before it
_MAX_HELD = 128  # packets that wait for later ones to decide whether their frame is needed


class TimestampMismatch(AvsslError):  # noqa: N818  (not a fault of the file: everything is decoded instead)
    """The packets' timestamps do not tell which frames the decoder returns."""


class PacketSelector:
    """Iterates over packets in decoding order, each with True if its frame is needed, False if not.

    Args:
        packets: Packets of one stream, from a keyframe on.
        requested: Requested times in ticks, ascending, at least one.
        trusts_dts: True if decoding times are the container's own, not guesses; they need less looking ahead.
    """

    def __init__(self, packets: Iterator[Any], requested: Sequence[int], trusts_dts: bool) -> None:
        self._packets = packets
        self._requested = requested
        self._trusts_dts = trusts_dts
        self.times: list[int] = []
        """Ticks of the frames known so far, ascending."""
        self.needed: set[int] = set()
        """Ticks of the needed frames among the packets handed out."""
        self.ended = False
        """True if the stream has no further packets."""
        self._reached = -math.inf  # no later packet shows its frame at or before this tick

    def shown_at(self, tick: int) -> int | None:
        """Return the tick of the frame shown at a requested tick; None while it is not known."""
        if not self._is_settled(tick):
            return None
        index = bisect_right(self.times, tick)
        if index == 0:
            raise TimestampMismatch
        return self.times[index - 1]

    def __iter__(self) -> Iterator[tuple[Any, bool]]:
        held: deque[Any] = deque()
        for packet in self._packets:
            if packet.dts is None and packet.size == 0:
                break
            self._add_time(packet)
            held.append(packet)
            if self._is_settled(self._requested[-1]):
                yield from self._rest(held)
                return
            while held and (needed := self._is_needed(held[0])) is not None:
                yield held.popleft(), needed
            if len(held) > _MAX_HELD:
                raise TimestampMismatch
        self.ended = True
        yield from self._rest(held)

    def _is_settled(self, tick: int) -> bool:
        """Return True if all frames shown at or before a tick are known."""
        later = len(self.times) - bisect_right(self.times, tick)
        return self.ended or self._reached >= tick or later > _MAX_REORDERED

    def _add_time(self, packet: Any) -> None:
        if packet.pts is None:
            raise TimestampMismatch
        if self._trusts_dts and packet.dts is not None:
            if not self._reached < packet.dts <= packet.pts:
                raise TimestampMismatch
            self._reached = packet.dts
        if not packet.is_discard:  # an edit list cuts it out: it is decoded and not shown
            insort(self.times, packet.pts)

    def _is_needed(self, packet: Any) -> bool | None:
        """Return True if a requested tick lies between this frame and the next one; None while it is not known."""
        first = bisect_left(self._requested, packet.pts)
        if packet.is_discard or first == len(self._requested):
            return False
        after = bisect_right(self.times, packet.pts)
        if after < len(self.times) and self.times[after] <= self._requested[first]:
            return False
        if not self._is_settled(self._requested[first]):
            return None
        self.needed.add(packet.pts)
        return True

    def _rest(self, held: deque[Any]) -> Iterator[tuple[Any, bool]]:
        """Yield what is left once all times are known, up to the last needed packet."""
        needed = [bool(self._is_needed(packet)) for packet in held]
        while needed and not needed[-1]:
            needed.pop()
        yield from zip(held, needed, strict=False)


class SelectiveDecoder:
    """Finds frames of one stream by its packets' timestamps.

    Args:
        source: The container.
        index: Index of the stream.
        frame_ticks: Ticks from one frame to the next, on average.
        first_tick: Start of the stream, in ticks.
    """

    def __init__(self, source: Source, index: int, frame_ticks: int, first_tick: int) -> None:
        self._source = source
        self._index = index
        self._near_ticks = _NEAR_FRAMES * frame_ticks
        self._first_tick = first_tick
        stream = source.stream(index)
        self._tick_seconds = float(stream.time_base)
        self._blind_ticks = BLIND_SEEK_SECONDS / self._tick_seconds
        self._skips = stream.codec_context.name in _SKIPS
        self._trusts_dts = "mp4" in source.container.format.name
        self.usable = stream.codec_context.field_order in _PROGRESSIVE and not source.counts_frames(index)
        """False for interlaced video, where AVI numbers frames, and after a :class:`TimestampMismatch`."""

    def shown(self, at_seconds: Sequence[float], ticks: Sequence[int]) -> Iterator[tuple[int, Any, bool]]:
        """Yield (tick, frame shown, True if it is the stream's last) at each of the ascending times.

        Raises:
            TimestampMismatch: If the decoder returns other frames than the packets announce.
            MediaError: If decoding fails.
        """
        start = 0
        while start < len(ticks):
            stop = start + 1
            while stop < len(ticks) and not self._worth_seeking(ticks[stop - 1], ticks[stop]):
                stop += 1
            yield from self._run(at_seconds[start:stop], ticks[start:stop])
            start = stop

    def _worth_seeking(self, tick: int, following: int) -> bool:
        if not self._source.seeks_exactly:
            return False
        keyframe = self._source.keyframe_before(self._index, following)
        if keyframe is not None:
            return keyframe > tick + self._near_ticks
        if following - tick > self._blind_ticks:
            self._blind_ticks *= 2  # the keyframes are not indexed: do not try forever
            return True
        return False

    def _run(self, at_seconds: Sequence[float], ticks: Sequence[int]) -> Iterator[tuple[int, Any, bool]]:
        """Yield frames that are decoded without seeking in between."""
        self._source.deadline.start()
        reached = at_seconds[0]
        with self._source.reporting("video", at_seconds[0]):
            selector = PacketSelector(self._packets(ticks[0]), ticks, self._trusts_dts)
        frames = self._source.whole(self._index, self._decoded(selector))
        ready: dict[int, Any] = {}
        for second, tick in zip(at_seconds, ticks, strict=True):
            with self._source.reporting("video", second):
                shown = selector.shown_at(tick)
                while shown is None or shown not in ready:
                    self._keep(next(frames, None), shown, selector, ready)
                    shown = selector.shown_at(tick)
            for earlier in [other for other in ready if other < shown]:
                del ready[earlier]
            self._source.deadline.allow(second - reached)
            reached = second
            yield shown, ready[shown], selector.ended and shown == selector.times[-1]

    def _keep(self, frame: Any | None, shown: int | None, selector: PacketSelector, ready: dict[int, Any]) -> None:
        if frame is None and shown is None and selector.ended:  # only now it is known that nothing else will be shown
            return
        if frame is None or frame.pts is None or (shown is not None and frame.pts > shown):
            raise TimestampMismatch
        if self._skips and frame.interlaced_frame:
            raise TimestampMismatch
        if frame.pts in selector.needed:
            ready[frame.pts] = frame

    def _decoded(self, selector: PacketSelector) -> Iterator[Any]:
        for packet, needed in selector:
            if self._skips:
                packet.stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
            yield from packet.decode()
        yield from self._source.stream(self._index).codec_context.decode(None)

    def _packets(self, tick: int) -> Iterator[Any]:
        """Return packets from the last keyframe shown at or before a tick."""
        for back in (*BACK_SECONDS, math.inf):
            begin = tick - back / self._tick_seconds
            from_start = begin <= self._first_tick
            packets = self._source.packets(self._index, None if from_start else int(begin))
            first = next((p for p in packets if from_start or p.is_keyframe or p.pts is None or p.pts > tick), None)
            if first is not None and (
                from_start or (first.is_keyframe and first.pts is not None and first.pts <= tick)
            ):
                return chain([first], packets)
            if from_start:
                break
        raise TimestampMismatch
