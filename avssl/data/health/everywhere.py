"""Decode all of a file in the way in which training reads it: from every place where decoding can begin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from avssl.data.health.segments import Span
from avssl.media import MediaInfo, MediaReader
from avssl.media.pyav.packets import Packets

_WINDOW_SECONDS = 2.0  # of a default clip
_INSIDE_SECONDS = 1e-4
_SHORT_SIDE = 64
_SAMPLE_RATE_HZ = 24_000  # of a default clip: the resampler is used as well


def decode_everywhere(open_again: Callable[[], MediaReader], info: MediaInfo, packets: Packets | None) -> None:
    """Read every frame and all audio in windows, each from a file that is opened for it alone.

    Windows of up to 2 s begin at each keyframe, as a clip may be decoded from there; others run over keyframes, and the
    last one to the end.

    Args:
        open_again: Opens the file.
        info: Its header, with the streams to decode and the time that rows can hold.
        packets: Its packets; None if their times are not the reader's.

    Raises:
        MediaError: At the first window that cannot be decoded.
    """
    if info.video_start_seconds is not None and info.video_stop_seconds is not None:
        start, stop = info.video_start_seconds, info.video_stop_seconds
        over_keyframes = [*_windows((start, stop), np.empty(0)), (max(start, stop - _WINDOW_SECONDS), stop)]
        for window in (*_windows((start, stop), _first_keyframes(packets)), *over_keyframes):
            with open_again() as reader:
                reader.read_frames(_frame_times(info, window), min(_SHORT_SIDE, info.width or 1, info.height or 1))
    if info.audio_start_seconds is not None and info.audio_stop_seconds is not None:
        for begin, end in _windows((info.audio_start_seconds, info.audio_stop_seconds), np.empty(0)):
            with open_again() as reader:
                reader.read_audio(begin, end, _SAMPLE_RATE_HZ)


def _first_keyframes(packets: Packets | None) -> np.ndarray:
    """Return the times of keyframes that follow another kind of frame; where all are keyframes, one is like another."""
    if packets is None:
        return np.empty(0)
    video = packets.video
    follows = np.concatenate([[False], ~video.is_key[:-1]])
    return video.seconds[video.is_key & follows]


def _windows(span: Span, starts: np.ndarray) -> Iterator[Span]:
    """Yield windows that cover a span; they begin at its start, at each of ``starts`` in it, and 2 s after another."""
    start, stop = span
    inside = starts[(starts > start) & (starts < stop)].tolist()
    for begin, end in zip([start, *inside], [*inside, stop], strict=True):
        count = max(1, math.ceil((end - begin) / _WINDOW_SECONDS - 1e-6))
        edges = np.linspace(begin, end, count + 1).tolist()
        yield from pairwise(edges)


def _frame_times(info: MediaInfo, window: Span) -> list[float]:
    """Return the times of all frames in a window, by the stream's rate, and of its end."""
    step = 1 / (info.video_fps or 1.0)
    count = max(1, math.ceil((window[1] - window[0]) / step - 1e-6))
    last = max(window[0], window[1] - _INSIDE_SECONDS)
    return [*(min(window[0] + number * step, last) for number in range(count)), last]
