"""Choose the window of a clip in its file, as a pure function of a random key.

The training rule is AVID's (Morgado et al., 2021, https://arxiv.org/abs/2004.12943), written in
seconds. The audio window is drawn first, uniformly over the time where both streams exist; the
video window is drawn around it, reaching at most ``max_offset_seconds`` beyond it on each side::

    streams        |-----------------------------------------|
    audio                  |==== audio_seconds ====|
    video may be in  |..off|=======================|off..|
    video              |=== video_seconds ===|

Everything is half-open, ``[start, stop)``, in the file's own presentation seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from avssl.core import draws
from avssl.core.errors import InputError
from avssl.core.needs import TemporalWindows
from avssl.core.ranges import Count, FrameRate, Pixels, SampleRate, Seconds, SecondsOrZero, checked

SLACK_SECONDS = 0.05
"""Audio that may be missing at the end of a window before the row counts as too short: the
streams of one file rarely end together, and an AAC frame is 21 to 46 ms. It is filled with silence."""

Span = tuple[float, float]
"""(start, stop) in seconds."""


@checked
@dataclass(frozen=True)
class ClipSampling:
    """The shape of a clip.

    Raises:
        ValueError: If a length, rate or offset is out of range.

    Example:
        >>> sampling = ClipSampling(num_frames=16, frames_per_second=8.0, audio_seconds=1.5, sample_rate_hz=16_000)
        >>> sampling.video_seconds, sampling.num_samples
        (2.0, 24000)
    """

    num_frames: Count = 8
    """Frames per clip, >= 1."""
    frames_per_second: FrameRate = 4.0
    """Sampling rate of the frames, whatever the file's; num_frames divided by it is the length of the window."""
    audio_seconds: Seconds = 2.0
    """Length of the audio window, in seconds."""
    sample_rate_hz: SampleRate = 24_000
    """Audio is resampled to this rate, in Hz, mono."""
    max_offset_seconds: SecondsOrZero = 0.0
    """Training clips: the video window may extend this far beyond the audio window on either side, in seconds, >= 0."""
    short_side: Pixels | None = None
    """Frames are decoded with this short side, in pixels; None keeps the file's size (in a run,
    transform.video.size / 0.875)."""
    short_clips: Literal["error", "repeat"] = "error"
    """Rows shorter than a window: "error" counts them as bad files with the reason too_short; "repeat" repeats the last
    frame and pads the audio with silence."""

    def __post_init__(self) -> None:
        if self.short_clips not in ("error", "repeat"):
            raise InputError(f'short_clips ({self.short_clips!r}) must be "error" or "repeat".')

    @property
    def video_seconds(self) -> float:
        """Length of the video window: each frame lasts 1 / frames_per_second."""
        return self.num_frames / self.frames_per_second

    @property
    def num_samples(self) -> int:
        """Samples in the audio window."""
        return round(self.audio_seconds * self.sample_rate_hz)

    @property
    def last_frame_seconds(self) -> float:
        """Time from the first frame to the last: 4 frames at 2 fps span 1.5 s, not 2 s."""
        return (self.num_frames - 1) / self.frames_per_second


def sample_windows(
    keys: Iterable[int], sampling: ClipSampling, video_span: Span, audio_span: Span, row_span: Span | None = None
) -> tuple[list[float], list[float]]:
    """Draw random windows of one file, for training.

    The video window stays inside the video stream wherever it fits; if it cannot reach the
    audio window, it is the nearest one. A span shorter than its window is read from its
    start. With windows of equal length and ``max_offset_seconds=0`` both start at the same time.

    Args:
        keys: One random key per window, from :func:`avssl.core.draws.clip_key_int`.
        video_span: (start, stop) of the video stream.
        audio_span: (start, stop) of the audio stream.
        row_span: (start, stop) of the manifest row; None for the whole file.

    Returns:
        Audio starts and video starts, in seconds.

    Example:
        >>> keys = [avssl.core.draws.clip_key_int(0, epoch, 17, 0) for epoch in range(3)]
        >>> audio, video = sample_windows(keys, ClipSampling(), video_span=(0.0, 10.0), audio_span=(0.0, 10.0))
        >>> len(audio), audio == video, all(0 <= start <= 8 for start in audio)  # windows of 2 s
        (3, True, True)
    """
    video, audio = _clipped(video_span, row_span), _clipped(audio_span, row_span)
    low, high = _audio_starts(sampling, video, audio)
    audio_starts, video_starts = [], []
    for key in keys:
        audio_start = low + draws.uniform_float(key, "window.audio") * (high - low)
        audio_starts.append(audio_start)
        video_starts.append(_video_start(draws.uniform_float(key, "window.video"), sampling, audio_start, video))
    return audio_starts, video_starts


def sample_other_windows(
    keys: Iterable[int],
    windows: TemporalWindows,
    sampling: ClipSampling,
    video_span: Span,
    audio_span: Span,
    row_span: Span | None = None,
) -> list[tuple[list[float], list[float]]]:
    """Draw the windows of training clips at several times; the first view is that of :func:`sample_windows`.

    ::

        |....far....|====near====|..| view |..|====near====|....far....|

    A distance is uniform over what the row holds of the near (far) stretches on both sides. If it holds nothing far,
    the window is near; near ones always fit, as :func:`missing_for_windows` says.

    Args:
        keys: One random key per clip.
        windows: Numbers and distances.
        sampling, video_span, audio_span, row_span: As in :func:`sample_windows`.

    Returns:
        For each key the starts of ``windows.num_audio`` windows of audio, each view's own before its negatives, and of
        ``windows.num_views`` of video, in seconds.
    """
    video, audio = _clipped(video_span, row_span), _clipped(audio_span, row_span)
    low, high = _audio_starts(sampling, video, audio)
    nearest, furthest = windows.near_seconds
    found = []
    for key in keys:
        (first,), (video_start,) = sample_windows([key], sampling, video_span, audio_span, row_span)
        audio_starts, video_starts = [], []
        for view in range(windows.num_views):
            own = first
            if view:
                unit = draws.uniform_float(key, f"window.view/{view}")
                own = _at_distance(unit, first, (low, high), nearest, math.inf)
                video_start = _video_start(draws.uniform_float(key, f"window.video/{view}"), sampling, own, video)
            audio_starts.append(own)
            video_starts.append(video_start)
            for number in range(windows.num_negatives):
                unit = draws.uniform_float(key, f"window.other/{view}/{number}")
                is_far = number % 2 and max(own - low, high - own) > furthest
                reach = (furthest, math.inf) if is_far else (nearest, furthest)
                audio_starts.append(_at_distance(unit, own, (low, high), *reach))
        found.append((audio_starts, video_starts))
    return found


def _at_distance(unit: float, start: float, span: Span, nearest: float, furthest: float) -> float:
    """Return the start at a share ``unit`` of what ``span`` holds at these distances before and after ``start``."""
    before = max(0.0, start - nearest - max(span[0], start - furthest))
    after = max(0.0, min(span[1], start + furthest) - (start + nearest))
    place = unit * (before + after)
    return start - nearest - before + place if place < before else start + nearest + (place - before)


def missing_for_windows(
    windows: TemporalWindows, sampling: ClipSampling, video_span: Span, audio_span: Span, row_span: Span | None = None
) -> float:
    """Return how much a row is too short for windows at several times, in seconds; 0 if near windows always fit."""
    low, high = _audio_starts(sampling, _clipped(video_span, row_span), _clipped(audio_span, row_span))
    return max(0.0, 2 * windows.near_seconds[1] - (high - low))


def _video_start(unit: float, sampling: ClipSampling, audio_start: float, video: Span) -> float:
    # Written as start + (difference), so that equal lengths and no offset give the very same number.
    slack = sampling.audio_seconds - sampling.video_seconds
    low = audio_start - sampling.max_offset_seconds
    high = audio_start + (slack + sampling.max_offset_seconds)
    if high < low:  # the video window is the longer one: center it on the audio
        low = high = audio_start + slack / 2
    low, high = (_clamp_start(value, video, sampling.video_seconds) for value in (low, high))
    return low + unit * (high - low)


def even_windows(
    count: int, sampling: ClipSampling, video_span: Span, audio_span: Span, row_span: Span | None = None
) -> tuple[list[float], list[float]]:
    """Return fixed windows for evaluation, their centers evenly spaced over the time where both streams exist.

    The first window begins with that time and the last one ends with it; a single window lies in
    its middle. The video and audio of a window share their center, unless a stream ends before.

    Args:
        count: Number of windows, >= 1.
        sampling: The shape of a clip; its offset is not used.
        video_span: (start, stop) of the video stream.
        audio_span: (start, stop) of the audio stream.
        row_span: (start, stop) of the manifest row; None for the whole file.

    Returns:
        Audio starts and video starts, in seconds.

    Raises:
        ValueError: If ``count`` is less than 1.

    Example:
        >>> sampling = ClipSampling(num_frames=8, frames_per_second=8.0, audio_seconds=2.0)  # video of 1 s
        >>> even_windows(3, sampling, video_span=(0.0, 10.0), audio_span=(0.0, 10.0))
        ([0.0, 4.0, 8.0], [0.5, 4.5, 8.5])
    """
    if count < 1:
        raise InputError(f"count ({count}) must be at least 1.")
    video, audio = _clipped(video_span, row_span), _clipped(audio_span, row_span)
    start, stop = _common(video, audio)
    half = min(max(sampling.video_seconds, sampling.audio_seconds), stop - start) / 2
    positions = [i / (count - 1) for i in range(count)] if count > 1 else [0.5]
    centers = [(start + half) + position * ((stop - half) - (start + half)) for position in positions]
    return _around(centers, sampling, video, audio)


def spaced_windows(
    every_seconds: float, sampling: ClipSampling, video_span: Span, audio_span: Span, row_span: Span | None = None
) -> tuple[list[float], list[float]]:
    """Return windows over the whole of a file, for features of every moment.

    The first begins where both streams exist, the next ones each ``every_seconds`` later; if more
    than :data:`SLACK_SECONDS` is left, a last one ends with that time. The video and audio of
    a window share their center, unless a stream ends before.

    Args:
        every_seconds: From one window to the next, > 0. More than a window's length leaves gaps.
        sampling: The shape of a clip; its offset is not used.
        video_span: (start, stop) of the video stream.
        audio_span: (start, stop) of the audio stream.
        row_span: (start, stop) of the manifest row; None for the whole file.

    Returns:
        Audio starts and video starts, in seconds, ascending; at least one each.

    Raises:
        ValueError: If ``every_seconds`` is not greater than 0.

    Example:
        >>> spaced_windows(3.0, ClipSampling(), video_span=(0.0, 9.5), audio_span=(0.0, 9.5))  # windows of 2 s
        ([0.0, 3.0, 6.0, 7.5], [0.0, 3.0, 6.0, 7.5])
    """
    if not every_seconds > 0:
        raise InputError(f"every_seconds ({every_seconds}) must be greater than 0.")
    video, audio = _clipped(video_span, row_span), _clipped(audio_span, row_span)
    start, stop = _common(video, audio)
    length = min(max(sampling.video_seconds, sampling.audio_seconds), stop - start)
    # 9.5 s, windows of 2 s every 3 s:  [0, 2) [3, 5) [6, 8), and [7.5, 9.5) for the rest.
    steps = max(0, math.ceil((stop - start - length - SLACK_SECONDS) / every_seconds))
    begins = [min(start + i * every_seconds, stop - length) for i in range(steps + 1)]
    return _around([begin + length / 2 for begin in begins], sampling, video, audio)


def _common(video: Span, audio: Span) -> Span:
    """Return the span where both streams exist, never of negative length."""
    start = max(video[0], audio[0])
    return start, max(start, min(video[1], audio[1]))


def _around(centers: list[float], sampling: ClipSampling, video: Span, audio: Span) -> tuple[list[float], list[float]]:
    """Return audio and video starts of windows around centers, moved to lie inside their streams."""
    return (
        [_clamp_start(center - sampling.audio_seconds / 2, audio, sampling.audio_seconds) for center in centers],
        [_clamp_start(center - sampling.video_seconds / 2, video, sampling.video_seconds) for center in centers],
    )


def missing_seconds(
    sampling: ClipSampling, video_span: Span, audio_span: Span, row_span: Span | None = None
) -> tuple[float, float]:
    """Return how much the video and the audio are too short for one window; 0 if they suffice.

    Video suffices if the time of its last frame exists, audio if no more than :data:`SLACK_SECONDS` is missing.

    Returns:
        Missing video and missing audio, in seconds, >= 0.
    """
    video, audio = _clipped(video_span, row_span), _clipped(audio_span, row_span)
    video_missing = max(0.0, sampling.last_frame_seconds - (video[1] - video[0]))
    audio_missing = sampling.audio_seconds - (audio[1] - audio[0])
    return (
        video_missing if video[1] > video[0] else sampling.video_seconds,
        audio_missing if audio_missing > SLACK_SECONDS else 0.0,
    )


def _clipped(span: Span, row_span: Span | None) -> Span:
    """Return the part of ``span`` inside the row, never of negative length."""
    if row_span is None:
        return span
    start = max(span[0], row_span[0])
    return start, max(start, min(span[1], row_span[1]))


def _audio_starts(sampling: ClipSampling, video: Span, audio: Span) -> tuple[float, float]:
    """Return the first and last possible start of the audio window, equal if there is no choice."""
    low = max(video[0], audio[0])
    high = min(video[1], audio[1]) - sampling.audio_seconds
    if high < low:
        low = high = _clamp_start(low, audio, sampling.audio_seconds)
    return low, high


def _clamp_start(start: float, span: Span, length: float) -> float:
    """Return the start nearest to ``start`` whose window lies in ``span``; the span's own start if none does."""
    return min(max(start, span[0]), max(span[1] - length, span[0]))
