"""Find the frame shown at each time by the decoded frames' own timestamps, where those of packets do not tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from avssl.media.errors import MediaError
from avssl.media.pyav.source import Source

LATE_SECONDS = 0.1
"""The first frame may begin this much, or two frames, after the time that the container declares."""
BACK_SECONDS = (0.0, 1.0, 4.0, 16.0, 64.0)
"""Seconds before the requested time to which the first, second ... attempt seeks."""
BLIND_SEEK_SECONDS = 4.0
"""Without an index of keyframes, gaps longer than this are worth a seek."""


class SequentialDecoder:
    """Finds frames of one stream by decoding every frame from the keyframe on.

    Args:
        source: The container.
        index: Index of the stream.
        frame_ticks: Ticks from one frame to the next, on average.
        start_seconds: Start of the stream.
        first_tick: The same in ticks.
    """

    def __init__(self, source: Source, index: int, frame_ticks: int, start_seconds: float, first_tick: int) -> None:
        self._source = source
        self._index = index
        self._frame_ticks = frame_ticks
        self._start_seconds = start_seconds
        self._first_tick = first_tick
        self._tick_seconds = source.stream(index).time_base
        self._blind_ticks = BLIND_SEEK_SECONDS / float(self._tick_seconds)
        self._delay = source.stream(index).codec_context.reorder_depth if source.counts_frames(index) else None
        self._late_ticks = max(2 * frame_ticks, int(LATE_SECONDS / self._tick_seconds))
        self._frames: Iterator[tuple[int, Any]] = iter(())

    def shown(self, at_seconds: Sequence[float], ticks: Sequence[int]) -> Iterator[tuple[int, Any, bool]]:
        """Yield (tick, frame shown, True if it is the stream's last) at each of the ascending times.

        Raises:
            MediaError: If decoding fails, or if the first frame that can be decoded comes after a requested time
                (``"out_of_range"``, with the second of that frame).
        """
        current: tuple[int, Any] | None = None
        following: tuple[int, Any] | None = None
        reached = at_seconds[0] if at_seconds else 0.0
        for second, tick in zip(at_seconds, ticks, strict=True):
            with self._source.reporting("video", second):
                if current is None or (following is not None and self._worth_seeking(current[0], tick)):
                    self._source.deadline.start()
                    current = self._start(tick)
                    following = next(self._frames, None)
                while following is not None and following[0] <= tick:
                    current, following = following, next(self._frames, None)
            self._source.deadline.allow(second - reached)
            reached = second
            yield *current, following is None

    def _worth_seeking(self, position: int, tick: int) -> bool:
        if not self._source.seeks_exactly:
            return False
        keyframe = self._source.keyframe_before(self._index, tick)
        if keyframe is not None and self._source.last_dts is not None and keyframe > self._source.last_dts:
            return True
        if keyframe is None and tick - position > self._blind_ticks:
            self._blind_ticks *= 2  # the keyframes are not indexed: do not try forever
            return True
        return False

    def _start(self, tick: int) -> tuple[int, Any]:
        """Return the first decoded frame at or before a tick; ``self._frames`` continues after it."""
        for back in (*BACK_SECONDS, math.inf):
            from_start = tick - back / self._tick_seconds <= self._first_tick
            begin = None if from_start else tick - int(back / self._tick_seconds)
            self._frames = self._timed(begin)
            first = next(self._frames, None)
            if first is not None and first[0] <= tick + (self._late_ticks if begin is None else 0):
                return first
            if begin is None and first is not None:
                found = "no earlier frame can be decoded, as the file begins between two keyframes."
                second = float(first[0] * self._tick_seconds)
                path, advice = str(self._source.path), "Request later times."
                raise MediaError(path, "video", "out_of_range", found, advice, second)
            if begin is None:
                break
        raise self._source.error("video", "no frame could be decoded.", self._start_seconds)

    def _timed(self, from_tick: int | None) -> Iterator[tuple[int, Any]]:
        """Yield (tick, frame) in the order shown; a missing timestamp follows from the frame before."""
        following = self._first_tick
        for frame in self._source.frames(self._index, from_tick):
            tick = frame.pts
            if self._delay is not None:
                tick = None if frame.dts is None else frame.dts - self._delay
            tick = following if tick is None else tick
            following = tick + (frame.duration or self._frame_ticks)
            yield tick, frame
