"""The audio stream of a PyAV container: exact windows of samples.

Positions count samples at the stream's own rate; 0 is the sample at ``info.audio_start_seconds``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from avssl.media.pyav.source import Source

# Some codecs' frames depend on earlier ones: 8 MP3 frames cover the bit reservoir, 80 ms the settling of Opus.
_PREROLL_SAMPLES = 8 * 1152
_PREROLL_SECONDS = 0.1
_BACK_SECONDS = (0.0, 1.0, 8.0)
_KEPT_SECONDS = 16.0  # decoded audio kept for the next window: 6 MB in 48 kHz stereo
# FFmpeg counts on from the first of the frames that share a packet of MPEG-TS, in whole ticks of 1 / 90000 s each.
_COUNTING_SECONDS = 1e-4
_END_SECONDS = 0.1  # headers round a stream's end up to whole frames; a longer gap means that the file was cut

# PyAV counts planes up to an empty one. FFmpeg has room for 8: after 8 or more channels comes other memory.
_MAX_PLANES = 7
_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
_SCALE = {"u1": (128.0, 1 / 2**7), "i2": (0.0, 1 / 2**15), "i4": (0.0, 1 / 2**31), "i8": (0.0, 1 / 2**63)}


class AudioTrack:
    """Reads samples of one stream.

    Args:
        source: The container.
        index: Index of the stream.
        span: (start, stop) in seconds.
    """

    def __init__(self, source: Source, index: int, span: tuple[float, float]) -> None:
        self.source = source
        self.index = index
        self.start_seconds, self.stop_seconds = span
        stream = source.stream(index)
        self.time_base = stream.time_base
        self.rate: int = stream.codec_context.sample_rate
        self.num_channels: int = stream.codec_context.channels
        self.layout: str = stream.codec_context.layout.name
        self._preroll = max(_PREROLL_SAMPLES, math.ceil(_PREROLL_SECONDS * self.rate))
        self._grid: tuple[float, int, int] | None = None
        # State of the last window, for one that follows it:
        self._past: tuple[int, np.ndarray] = (0, np.empty((self.num_channels, 0), np.float32))  # position, samples
        self._run: Iterator[tuple[int, Any]] = iter(())
        self._last: tuple[int, Any] | None = None  # latest item of ``_run``
        self._end = 0  # end of the samples found so far
        self._read = -1  # the source's count of reads while ``_run`` is the latest

    @property
    def clock_is_exact(self) -> bool:
        """True if timestamps tell samples apart; Matroska's, in milliseconds, do not."""
        return bool(self.time_base * self.rate <= 1)

    @property
    def _frames_on_ticks(self) -> bool:
        """True if timestamps give the place of every frame to the sample: frames are whole numbers of ticks long."""
        samples = self.source.stream(self.index).codec_context.frame_size or 1
        return self.clock_is_exact and (samples / (self.time_base * self.rate)).denominator == 1

    def read(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        """Decode samples; see ``MediaReader._read_samples``. Gaps between packets are silence.

        Raises:
            MediaError: If decoding fails, or the audio ends before ``needed_stop``.
        """
        out = np.zeros((self.num_channels, stop - first), dtype=np.float32)
        second = self.start_seconds + first / self.rate
        with self.source.reporting("audio", second):
            self._fill(out, first)
        if self._end < needed_stop - _END_SECONDS * self.rate:
            ends = self.start_seconds + self._end / self.rate
            found = f"the audio ends at {ends:.3f} s although the container says {self.stop_seconds:.3f} s."
            raise self.source.error("audio", found, second, cut=True)
        return out[:, : min(stop, max(self._end, needed_stop)) - first]

    def _fill(self, out: np.ndarray, first: int) -> None:
        """Fill ``out`` from ``first`` on. A window that overlaps or nearly touches the last one continues it."""
        past_first, past = self._past
        past_stop, stop = past_first + past.shape[1], first + out.shape[1]
        continues = self._read == self.source.reads and past_first <= first <= past_stop + self._preroll
        self._read = -1  # until all went well
        if continues:
            known = past[:, first - past_first : stop - past_first]
            out[:, : known.shape[1]] = known
        else:
            self._run, self._last, self._end = self._frames_near(first), None, 0
        if not continues or stop > past_stop:
            self._decode(out, first)
            kept = out[:, -math.ceil(_KEPT_SECONDS * self.rate) :]
            self._past = stop - kept.shape[1], out if kept.shape == out.shape else kept.copy()
        self._read = self.source.reads

    def _decode(self, out: np.ndarray, first: int) -> None:
        """Fill ``out`` from the last decoded frame and those after it."""
        at = self._last
        while True:
            if at is not None:
                position, frame = self._last = at
                stop = position + frame.samples
                self._end = max(self._end, stop)
                _copy(frame, position - first, out)
                if stop >= first + out.shape[1]:
                    return
            at = next(self._run, None)
            if at is None:
                return

    def _frames_near(self, first: int) -> Iterator[tuple[int, Any]]:
        """Yield (position, decoded frame) from far enough before ``first`` for exact decoding."""
        self._learn_grid()
        begin = first - self._preroll
        for back in (*_BACK_SECONDS, math.inf):
            earlier = begin - back * self.rate
            tick = None if earlier <= 0 else math.floor((self.start_seconds + earlier / self.rate) / self.time_base)
            frames = self._frames(tick)
            head = next(frames, None)
            if head is not None and (tick is None or head[0] <= max(0, begin)):
                yield head
                yield from frames
                return
            if tick is None:
                return

    def _frames(self, tick: int | None) -> Iterator[tuple[int, Any]]:
        following = 0
        for frame in self.source.frames(self.index, tick):
            if frame.is_corrupt:
                raise self.source.error("audio", "a packet is damaged.", frame.time)
            if frame.sample_rate != self.rate or frame.layout.nb_channels != self.num_channels:
                found = f"the stream changes from {self.rate} Hz, {self.num_channels} channels to {frame.sample_rate} "
                raise self.source.error("audio", f"{found}Hz, {frame.layout.nb_channels} channels.", frame.time)
            position = following if frame.pts is None else self._position(frame)
            following = position + frame.samples
            yield position, frame

    def _position(self, frame: Any) -> int:
        """Return the position of a frame's first sample, exact even if timestamps are coarser than samples."""
        if self._grid is not None:
            reference_seconds, reference, samples = self._grid
            elapsed = self._seconds(frame.pts) - reference_seconds
            # A trimmed frame keeps one of its edges on the grid of whole frames.
            start = elapsed * self.rate / samples
            stop = (elapsed * self.rate + frame.samples) / samples
            if abs(stop - round(stop)) < abs(start - round(start)):
                position, exact = reference + round(stop) * samples - frame.samples, stop
            else:
                position, exact = reference + round(start) * samples, start
            if abs(exact - round(exact)) * samples <= self.rate * max(2 * float(self.time_base), _COUNTING_SECONDS):
                return position
        return round((self._seconds(frame.pts) - self.start_seconds) * self.rate)

    def _seconds(self, tick: int) -> float:
        return tick * self.time_base.numerator / self.time_base.denominator

    def _learn_grid(self) -> None:
        """Learn from the second frame where frames begin, if they are no whole number of ticks long."""
        if self._grid is not None or self._frames_on_ticks:
            return
        lengths = [(f.pts, f.samples) for f, _ in zip(self.source.frames(self.index, None), range(4), strict=False)]
        if len(lengths) == 4 and lengths[1][1] == lengths[2][1] == lengths[3][1] and lengths[1][0] is not None:
            self._grid = (float(lengths[1][0] * self.time_base), lengths[0][1], lengths[1][1])


def _copy(frame: Any, column: int, out: np.ndarray) -> None:
    """Write a frame of any sample format into ``out``, (C, n) float32, from a column on, cut to fit."""
    low, high = max(0, -column), min(frame.samples, out.shape[1] - column)
    if low >= high:
        return
    if frame.format.is_planar and len(out) > _MAX_PLANES:
        frame = av.AudioResampler(format="flt").resample(frame)[0]
    dtype = np.dtype(_DTYPES[frame.format.name.removesuffix("p")])
    if frame.format.is_packed:
        packed = np.frombuffer(frame.planes[0], dtype, frame.samples * len(out))
        channels = list(packed.reshape(-1, len(out)).T)
    else:
        channels = [np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes[: len(out)]]
    for row, channel in zip(out, channels, strict=True):
        row[column + low : column + high] = _to_float(channel[low:high])


def _to_float(samples: np.ndarray) -> np.ndarray:
    if samples.dtype.kind == "f":
        return samples
    offset, scale = _SCALE[samples.dtype.str[1:]]
    return (samples.astype(np.float64) - offset) * scale
