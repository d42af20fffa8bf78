"""The sound track of a PyAV container: exact windows of samples, and FFmpeg's resampling of them.

Grid: sample 0 of a track is the one at ``info.audio_start_seconds``, at the track's own rate. Resampled, sample 0
stays where it is, and a window equals the same window of the whole track resampled at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.media.pyav.source import Source
from avssl.media.reader import MediaInfo, audio_window

# Codecs whose frames lean on earlier ones: 8 MP3 frames cover the bit reservoir, 80 ms the settling of Opus.
_PREROLL_SAMPLES = 8 * 1152
_PREROLL_SECONDS = 0.1
_BACK_SECONDS = (0.0, 1.0, 8.0)
_KEPT_SECONDS = 16.0  # of decoded sound, for the next window: 6 MB in 48 kHz stereo
_END_SECONDS = 0.1  # headers round a track's end up to whole frames; a longer hole means that the file was cut
_FILTER_TAPS = 32  # of FFmpeg's resampler at its default, in samples of the lower rate

# PyAV counts planes up to an empty one. FFmpeg has places for 8: behind 8 or more channels lies other memory.
_MAX_PLANES = 7
_CHUNK_SAMPLES = 8192  # resampled in one go: the same bits as all at once, in half the time
_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
_SCALE = {"u1": (128.0, 1 / 2**7), "i2": (0.0, 1 / 2**15), "i4": (0.0, 1 / 2**31), "i8": (0.0, 1 / 2**63)}

ReadWindow = Callable[[int, int, int], np.ndarray]
"""(first, stop, needed_stop) on the track's grid -> (C, n) float32 from ``first``; n reaches needed_stop at least."""


class SoundTrack:
    """Reads samples of one stream.

    Args:
        source: The container.
        index: The stream.
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
        self.total = round((self.stop_seconds - self.start_seconds) * self.rate)
        self._preroll = max(_PREROLL_SAMPLES, math.ceil(_PREROLL_SECONDS * self.rate))
        self._grid: tuple[float, int, int] | None = None
        # Of the last window, for one that follows:
        self._past: tuple[int, np.ndarray] = (0, np.empty((self.num_channels, 0), np.float32))  # where, samples
        self._run: Iterator[tuple[int, Any]] = iter(())
        self._last: tuple[int, Any] | None = None  # of ``_run``
        self._end = 0  # of the samples found so far
        self._read = -1  # the source's count of reads as long as ``_run`` is the latest

    @property
    def clock_is_exact(self) -> bool:
        """Whether timestamps tell samples apart; Matroska's, in milliseconds, do not."""
        return bool(self.time_base * self.rate <= 1)

    def read(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        """See :data:`ReadWindow`. Holes between packets are silence.

        Raises:
            MediaError: If decoding fails, or the sound ends before ``needed_stop``.
        """
        out = np.zeros((self.num_channels, stop - first), dtype=np.float32)
        second = self.start_seconds + first / self.rate
        with self.source.reporting("audio", second):
            self._fill(out, first)
        if self._end < needed_stop - _END_SECONDS * self.rate:
            ends = self.start_seconds + self._end / self.rate
            found = f"the sound ends at {ends:.3f} s although the container says {self.stop_seconds:.3f} s."
            raise self.source.error("audio", found, second, cut=True)
        return out[:, : min(stop, max(self._end, needed_stop)) - first]

    def _fill(self, out: np.ndarray, first: int) -> None:
        """Samples from ``first`` on. Windows that overlap or nearly touch the last one go on where it stopped."""
        past_first, past = self._past
        past_stop, stop = past_first + past.shape[1], first + out.shape[1]
        goes_on = self._read == self.source.reads and past_first <= first <= past_stop + self._preroll
        self._read = -1  # until all went well
        if goes_on:
            known = past[:, first - past_first : stop - past_first]
            out[:, : known.shape[1]] = known
        else:
            self._run, self._last, self._end = self._placed(first), None, 0
        if not goes_on or stop > past_stop:
            self._decode(out, first)
            kept = out[:, -math.ceil(_KEPT_SECONDS * self.rate) :]
            self._past = stop - kept.shape[1], out if kept.shape == out.shape else kept.copy()
        self._read = self.source.reads

    def _decode(self, out: np.ndarray, first: int) -> None:
        """Fills ``out`` from the last decoded frame and those behind it."""
        at = self._last
        while True:
            if at is not None:
                place, frame = self._last = at
                stop = place + frame.samples
                self._end = max(self._end, stop)
                _copy(frame, place - first, out)
                if stop >= first + out.shape[1]:
                    return
            at = next(self._run, None)
            if at is None:
                return

    def _placed(self, first: int) -> Iterator[tuple[int, Any]]:
        """(place on the grid, decoded frame) from far enough before ``first`` for exact decoding."""
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
                found = f"the track changes from {self.rate} Hz, {self.num_channels} channels to {frame.sample_rate} "
                raise self.source.error("audio", f"{found}Hz, {frame.layout.nb_channels} channels.", frame.time)
            place = following if frame.pts is None else self._place(frame)
            following = place + frame.samples
            yield place, frame

    def _place(self, frame: Any) -> int:
        """Grid index of a frame's first sample, exact where timestamps are coarser than samples."""
        if self._grid is not None:
            reference_seconds, reference, samples = self._grid
            elapsed = self._seconds(frame.pts) - reference_seconds
            # A trimmed frame keeps one of its edges on the grid of whole frames.
            start = elapsed * self.rate / samples
            stop = (elapsed * self.rate + frame.samples) / samples
            if abs(stop - round(stop)) < abs(start - round(start)):
                place, exact = reference + round(stop) * samples - frame.samples, stop
            else:
                place, exact = reference + round(start) * samples, start
            if abs(exact - round(exact)) * samples <= 2 * float(self.time_base) * self.rate:
                return place
        return round((self._seconds(frame.pts) - self.start_seconds) * self.rate)

    def _seconds(self, tick: int) -> float:
        return tick * self.time_base.numerator / self.time_base.denominator

    def _learn_grid(self) -> None:
        """In containers that count milliseconds, learns where frames begin from the second frame."""
        if self._grid is not None or self.clock_is_exact:
            return
        lengths = [(f.pts, f.samples) for f, _ in zip(self.source.frames(self.index, None), range(4), strict=False)]
        if len(lengths) == 4 and lengths[1][1] == lengths[2][1] == lengths[3][1] and lengths[1][0] is not None:
            self._grid = (float(lengths[1][0] * self.time_base), lengths[0][1], lengths[1][1])


def read_window(
    read: ReadWindow,
    info: MediaInfo,
    layout: str,
    start_seconds: float,
    stop_seconds: float,
    sample_rate_hz: int | None,
    num_channels: int,
) -> Tensor:
    """See :meth:`avssl.media.MediaReader.read_audio`; ``read`` gives samples of the track itself."""
    first, count, rate = audio_window(info, start_seconds, stop_seconds, sample_rate_hz)
    track_rate, track_channels = info.audio_sample_rate_hz, info.audio_num_channels
    assert track_rate is not None
    assert track_channels is not None
    assert info.audio_start_seconds is not None
    assert info.audio_stop_seconds is not None
    if num_channels not in (1, 2, track_channels):
        raise InputError(f"num_channels must be 1, 2 or the track's own {track_channels}, got {num_channels}.")
    total = round((info.audio_stop_seconds - info.audio_start_seconds) * track_rate)
    # The resampler is fed from where both grids meet, so that its phases are those of the whole track.
    divisor = math.gcd(track_rate, rate)
    step_in, step_out = track_rate // divisor, rate // divisor
    margin = 0 if rate == track_rate else _FILTER_TAPS * math.ceil(max(1, track_rate / rate))
    needed_stop = min(total, math.ceil((first + count) * track_rate / rate))
    begin = max(0, min(first * track_rate // rate, total - 1) - margin) // step_in * step_in
    samples = read(begin, min(total, needed_stop + margin), needed_stop)
    converted = convert(samples, layout, track_rate, rate, num_channels)
    skip = first - begin // step_in * step_out
    window = converted[:, skip : skip + count]
    if window.shape[1] < count:  # grids of two rates end up to a sample apart
        window = np.pad(window, ((0, 0), (0, count - window.shape[1])))
    return torch.from_numpy(window.copy())  # readers keep their samples for the next window


def convert(samples: np.ndarray, layout: str, rate: int, to_rate: int, to_channels: int) -> np.ndarray:
    """``(C, n)`` float32 at ``rate`` to ``(to_channels, m)`` at ``to_rate``, by FFmpeg's swresample.

    One or two channels, and layouts FFmpeg has no mixing rule for, are mixed by the mean; sample 0
    stays sample 0.
    """
    if len(samples) != to_channels and (len(samples) <= 2 or _unknown(layout)):
        samples = samples.mean(axis=0, keepdims=True)
        samples = samples if to_channels == 1 else samples.repeat(to_channels, axis=0)
        layout = "mono" if to_channels == 1 else "stereo"
    if rate == to_rate and len(samples) == to_channels:
        return samples
    if _unknown(layout):  # channels that are kept as they are need no rule: one at a time
        return np.concatenate([convert(channel[None], "mono", rate, to_rate, 1) for channel in samples])
    to_layout = layout if to_channels == len(samples) else ("mono" if to_channels == 1 else "stereo")
    # Packed samples: PyAV 18 miscounts the planes of eight channels and more.
    resampler = av.AudioResampler(format="flt", layout=to_layout, rate=to_rate)
    converted = []
    for start in range(0, samples.shape[1], _CHUNK_SAMPLES):
        chunk = samples[:, start : start + _CHUNK_SAMPLES].T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(chunk), format="flt", layout=layout)
        frame.sample_rate = rate
        converted += resampler.resample(frame)
    converted += resampler.resample(None)
    return np.concatenate([f.to_ndarray() for f in converted], axis=1).reshape(-1, to_channels).T


def _unknown(layout: str) -> bool:
    """Whether a layout is a bare number of channels, such as "16 channels"."""
    return (layout[:1].isdigit() and "channels" in layout) or layout == "hexadecagonal"


def _copy(frame: Any, place: int, out: np.ndarray) -> None:
    """Writes a frame of any sample format into ``out``, (C, n) float32, from column ``place`` on, cut to fit."""
    low, high = max(0, -place), min(frame.samples, out.shape[1] - place)
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
        row[place + low : place + high] = _to_float(channel[low:high])


def _to_float(samples: np.ndarray) -> np.ndarray:
    if samples.dtype.kind == "f":
        return samples
    offset, scale = _SCALE[samples.dtype.str[1:]]
    return (samples.astype(np.float64) - offset) * scale
