"""FFmpeg's resampling of exact windows of audio.

Grid: sample 0 of a stream is the one at ``info.audio_start_seconds``, at the stream's own rate. Resampled, sample 0
stays where it is, and a window equals the same window of the whole stream resampled at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import av
import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.media.downmix import Downmix
from avssl.media.errors import MediaError
from avssl.media.info import MediaInfo

MAX_AMPLITUDE = 1000.0
"""Largest value of a sample, where 1 is full scale. Lossy codecs overshoot full scale by a few times at most, and a
32-bit float recorder by some 30 dB; beyond 60 dB are only damaged samples and ones of another scale."""

_FILTER_TAPS = 32  # length of FFmpeg's default filter, in samples of the lower rate
_CHUNK_SAMPLES = 8192  # resampled at once: the same bits as the whole at once, in half the time


class AudioWindow(NamedTuple):
    """A window on the grid of a stream at some rate."""

    first: int
    num_samples: int
    rate: int


ReadSamples = Callable[[int, int, int], np.ndarray]
"""``(first, stop, needed_stop)`` → ``(C, n)`` float32; see ``MediaReader._read_samples``."""


def resample_window(
    read: ReadSamples, info: MediaInfo, layout: str, window: AudioWindow, num_channels: int, downmix: Downmix
) -> Tensor:
    """Return a window of a stream, resampled and mixed.

    Args:
        read: Reads the stream's samples.
        info: Span, rate and channels of the stream.
        layout: FFmpeg's name of its channel layout.
        window: The requested window, at the requested rate.
        num_channels: 1, 2 or the stream's own number.
        downmix: The stream's mix, for ``num_channels=1``.

    Returns:
        ``(num_channels, window.num_samples)`` float32, finite.

    Raises:
        MediaError: If a sample is not finite or above :data:`MAX_AMPLITUDE`.
    """
    first, count, rate = window
    stream_rate, stream_channels = info.audio_sample_rate_hz, info.audio_num_channels
    assert stream_rate is not None
    assert info.audio_start_seconds is not None
    assert info.audio_stop_seconds is not None
    if num_channels not in (1, 2, stream_channels):
        raise InputError(f"num_channels must be 1, 2 or the stream's own {stream_channels}, got {num_channels}.")
    total = round((info.audio_stop_seconds - info.audio_start_seconds) * stream_rate)
    # The resampler starts where both grids meet, so that its phases are those of the whole stream.
    divisor = math.gcd(stream_rate, rate)
    step_in, step_out = stream_rate // divisor, rate // divisor
    margin = 0 if rate == stream_rate else _FILTER_TAPS * math.ceil(max(1, stream_rate / rate))
    needed_stop = min(total, math.ceil((first + count) * stream_rate / rate))
    begin = max(0, min(first * stream_rate // rate, total - 1) - margin) // step_in * step_in
    span = begin, min(total, needed_stop + margin), needed_stop
    if num_channels == 1 < (stream_channels or 1):
        samples, layout = _read_mono(read, info, layout, span, downmix)
    else:
        samples = read(*span)
        _check_values(samples, info, begin)
    skip = first - begin // step_in * step_out
    resampled = resample(samples, layout, stream_rate, rate, num_channels)[:, skip : skip + count]
    if resampled.shape[1] < count:  # grids of two rates end up to a sample apart
        resampled = np.pad(resampled, ((0, 0), (0, count - resampled.shape[1])))
    return torch.from_numpy(resampled.copy())  # readers keep their samples for the next window


def _read_mono(
    read: ReadSamples, info: MediaInfo, layout: str, span: tuple[int, int, int], downmix: Downmix
) -> tuple[np.ndarray, str]:
    """Read a span and return it with its layout: all channels, or one where :class:`Downmix` replaced the mix."""
    first, stop, needed_stop = span
    begin, end = downmix.whole_blocks(first, stop)
    try:
        samples = read(begin, end, needed_stop)
    except MediaError:  # damaged in the rest of a block: it is judged by the part that is needed
        begin, end = first, stop
        samples = read(*span)
    inside = slice(first - begin, stop - begin)
    _check_values(samples[:, inside], info, first)
    rate = info.audio_sample_rate_hz or 1
    mix = resample(samples, layout, rate, rate, 1)
    mono = downmix.mono(samples, mix, begin, lambda low, high: read(low, high, high))
    return (samples[:, inside], layout) if mono is mix else (mono[:, inside], "mono")


def _check_values(samples: np.ndarray, info: MediaInfo, begin: int) -> None:
    """Raise MediaError at the first of ``(C, n)`` samples, from position ``begin`` on, that no recording holds.

    One such sample makes the loss of a whole batch NaN or infinite.
    """
    good = np.abs(samples) <= MAX_AMPLITUDE  # False for NaN
    if good.all():
        return
    assert info.audio_start_seconds is not None
    assert info.audio_sample_rate_hz is not None
    position = int(np.flatnonzero(~good.all(axis=0))[0])
    value = samples[np.flatnonzero(~good[:, position])[0], position]
    found, advice = (
        f"a sample is {value:g}, not a finite number.",
        "The file is damaged there: repair it or leave it out.",
    )
    if np.isfinite(value):
        found = f"a sample is {value:g}, over the limit of {MAX_AMPLITUDE:g} times full scale."
        advice = "It is damaged there, or of another scale: convert it so that full scale is 1, or leave it out."
    second = info.audio_start_seconds + (begin + position) / info.audio_sample_rate_hz
    raise MediaError(info.path, "audio", "unreadable", found, advice, second)


def resample(samples: np.ndarray, layout: str, rate: int, to_rate: int, to_channels: int) -> np.ndarray:
    """Convert ``(C, n)`` float32 at ``rate`` to ``(to_channels, m)`` at ``to_rate`` with FFmpeg's swresample.

    One or two channels, and layouts without a mixing rule in FFmpeg, are mixed by the mean; sample 0 stays sample 0.
    """
    if len(samples) != to_channels and (len(samples) <= 2 or _is_unnamed(layout)):
        samples = samples.mean(axis=0, keepdims=True)
        samples = samples if to_channels == 1 else samples.repeat(to_channels, axis=0)
        layout = "mono" if to_channels == 1 else "stereo"
    if rate == to_rate and len(samples) == to_channels:
        return samples
    if _is_unnamed(layout):  # channels that are not mixed need no rule: one at a time
        return np.concatenate([resample(channel[None], "mono", rate, to_rate, 1) for channel in samples])
    shortest = 2 * _FILTER_TAPS * math.ceil(max(1, rate / to_rate))
    if 0 < samples.shape[1] < shortest:  # FFmpeg returns nothing for them
        longer = np.pad(samples, ((0, 0), (0, shortest - samples.shape[1])), mode="symmetric")
        return resample(longer, layout, rate, to_rate, to_channels)[:, : round(samples.shape[1] * to_rate / rate)]
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
    if not converted:
        return np.zeros((to_channels, 0), np.float32)
    return np.concatenate([f.to_ndarray() for f in converted], axis=1).reshape(-1, to_channels).T


def _is_unnamed(layout: str) -> bool:
    """Return True if a layout is a bare number of channels, such as "16 channels"."""
    return (layout[:1].isdigit() and "channels" in layout) or layout == "hexadecagonal"
