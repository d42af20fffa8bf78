"""The frame shown at each time, from decoding only what those frames need.

The packets say beforehand which frame is shown when, so the decoder is told which pictures nobody asks for: those
that no other picture refers to are left out (two of three B-frames of an ordinary H.264 file), and the last asked
one is the last to be decoded. What comes out is bit for bit what decoding everything gives.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from avssl.media.pyav.source import Source
from avssl.media.pyav.walked import BACK_SECONDS, BLIND_SEEK_SECONDS

# Where FFmpeg's AVDISCARD_NONREF leaves out exactly the pictures that no other one is predicted from: by nal_ref_idc,
# or B-pictures where the standard forbids to refer to them. Not HEVC: what it leaves out may serve a higher temporal
# layer. VP8, VP9 and AV1 carry on their entropy coder's state.
_SKIPS = {"h264", "mpeg4", "mpeg2video", "mpeg1video"}
_PROGRESSIVE = (0, 1)  # unknown or progressive; a field may have a packet of its own
_NEAR_FRAMES = 2  # decoding on over this many frames costs no more than seeking
_MOST_REORDERED = 16  # no codec lets more frames than this overtake another on the way to the screen
_MOST_HELD = 128  # packets that wait for the word of those behind them


class Unplanned(Exception):  # noqa: N818  (no error of the file: the pictures are then found by decoding all)
    """The packets' timestamps do not say which frames will come out."""


class Plan:
    """Packets in decoding order, each with whether its frame is asked for, as soon as those behind it tell.

    Args:
        packets: Of one stream, from a keyframe on.
        asked: Ticks, ascending, at least one.
        trusts_dts: Whether decoding times are the container's own, not guesses; they need less looking ahead.
    """

    def __init__(self, packets: Iterator[Any], asked: Sequence[int], trusts_dts: bool) -> None:
        self._packets = packets
        self._asked = asked
        self._trusts_dts = trusts_dts
        self.times: list[int] = []
        """Ticks of the frames known so far, ascending."""
        self.wanted: set[int] = set()
        """Ticks of the frames that are asked for, of the packets handed out."""
        self.ended = False
        """Whether the stream has no further packets."""
        self._reached = -math.inf  # no later packet shows its frame at or before this tick

    def shown_at(self, tick: int) -> int | None:
        """Tick of the frame shown at an asked tick; None while it is not known."""
        if not self._settled(tick):
            return None
        place = bisect_right(self.times, tick)
        if place == 0:
            raise Unplanned
        return self.times[place - 1]

    def __iter__(self) -> Iterator[tuple[Any, bool]]:
        held: deque[Any] = deque()
        for packet in self._packets:
            if packet.dts is None and packet.size == 0:
                break
            self._learn(packet)
            held.append(packet)
            if self._settled(self._asked[-1]):
                yield from self._last(held)
                return
            while held and (verdict := self._verdict(held[0])) is not None:
                yield held.popleft(), verdict
            if len(held) > _MOST_HELD:
                raise Unplanned
        self.ended = True
        yield from self._last(held)

    def _settled(self, tick: int) -> bool:
        later = len(self.times) - bisect_right(self.times, tick)
        return self.ended or self._reached >= tick or later > _MOST_REORDERED

    def _learn(self, packet: Any) -> None:
        if packet.pts is None:
            raise Unplanned
        if self._trusts_dts and packet.dts is not None:
            if not self._reached < packet.dts <= packet.pts:
                raise Unplanned
            self._reached = packet.dts
        if not packet.is_discard:  # an edit list cuts it out: it is decoded and not shown
            insort(self.times, packet.pts)

    def _verdict(self, packet: Any) -> bool | None:
        """Whether some asked tick lies from this frame on and before the next one; None while it is not known."""
        first = bisect_left(self._asked, packet.pts)
        if packet.is_discard or first == len(self._asked):
            return False
        after = bisect_right(self.times, packet.pts)
        if after < len(self.times) and self.times[after] <= self._asked[first]:
            return False
        if not self._settled(self._asked[first]):
            return None
        self.wanted.add(packet.pts)
        return True

    def _last(self, held: deque[Any]) -> Iterator[tuple[Any, bool]]:
        """What is left once all is known, up to the last wanted packet."""
        verdicts = [bool(self._verdict(packet)) for packet in held]
        while verdicts and not verdicts[-1]:
            verdicts.pop()
        yield from zip(held, verdicts, strict=False)


class PlannedFrames:
    """Finds frames of one stream by its packets' timestamps.

    Args:
        source: The container.
        index: The stream.
        frame_ticks: Ticks from one frame to the next, on average.
        first_tick: Of the track's start.
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
        """False for interlaced tracks, for AVI with B-frames, and from when something unplanned came out."""

    def shown(self, at_seconds: Sequence[float], ticks: Sequence[int]) -> Iterator[tuple[int, Any, bool]]:
        """(its tick, frame shown, whether it is the stream's last) at each of the ascending times.

        Raises:
            Unplanned: If other frames come out of the decoder than the packets announce.
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
            self._blind_ticks *= 2  # the keyframes are not indexed; do not try forever
            return True
        return False

    def _run(self, at_seconds: Sequence[float], ticks: Sequence[int]) -> Iterator[tuple[int, Any, bool]]:
        """Frames that are decoded without seeking in between."""
        with self._source.reporting("video", at_seconds[0]):
            plan = Plan(self._packets(ticks[0]), ticks, self._trusts_dts)
        frames = self._decoded(plan)
        ready: dict[int, Any] = {}
        for second, tick in zip(at_seconds, ticks, strict=True):
            with self._source.reporting("video", second):
                shown = plan.shown_at(tick)
                while shown is None or shown not in ready:
                    self._take(next(frames, None), shown, plan, ready)
                    shown = plan.shown_at(tick)
            for earlier in [other for other in ready if other < shown]:
                del ready[earlier]
            yield shown, ready[shown], plan.ended and shown == plan.times[-1]

    def _take(self, frame: Any | None, shown: int | None, plan: Plan, ready: dict[int, Any]) -> None:
        if frame is None and shown is None and plan.ended:  # only now it is known that nothing else will be shown
            return
        if frame is None or frame.pts is None or (shown is not None and frame.pts > shown):
            raise Unplanned
        if self._skips and frame.interlaced_frame:
            raise Unplanned
        if frame.pts in plan.wanted:
            ready[frame.pts] = frame

    def _decoded(self, plan: Plan) -> Iterator[Any]:
        for packet, wanted in plan:
            if self._skips:
                packet.stream.codec_context.skip_frame = "DEFAULT" if wanted else "NONREF"
            yield from packet.decode()
        yield from self._source.stream(self._index).codec_context.decode(None)

    def _packets(self, tick: int) -> Iterator[Any]:
        """From the last keyframe shown at or before a tick."""
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
        raise Unplanned
