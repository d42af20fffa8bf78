"""Heat maps on their video, as an mp4 with sound or as one picture."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager

import torch
from torch import Tensor

from avssl.core.batch import Heatmap
from avssl.core.errors import InputError
from avssl.localization.drawing.composition import Composition
from avssl.localization.drawing.panel import Look
from avssl.localization.drawing.scale import Scale
from avssl.localization.drawing.scale import color_limits as color_limits
from avssl.localization.drawing.strip import sound_envelope
from avssl.localization.windows import AudioSource, AudioWindows
from avssl.media import MediaError, MediaReader, Planes, prefetch, write_image, write_video
from avssl.media.planes import to_rgb
from avssl.media.writer import AAC_RATES

SMALLEST_SIDE, LONGEST_SIDE = 360, 1280
"""Pixels. Videos with a shorter side below 360 are enlarged by a whole factor until they reach it (or what is drawn
would be wider than 1280); all others keep their size."""
WIDEST = 4096
"""Pixels. Pictures beside each other that would be wider together, and wider than the video, are made smaller."""

_COLUMNS = 1200  # of the waveform, at most a pixel or two each
_AHEAD = 4  # frames decoded while earlier ones are drawn
_CRF = 20
_ENCODER_THREADS = 4


def overlay_video(
    reader: MediaReader,
    heatmap: Heatmap | Mapping[str, Heatmap],
    out_path: str | os.PathLike[str],
    *,
    scale: Scale = "video",
    look: Look = Look(),  # noqa: B008  (frozen)
    audio_from: AudioSource = None,
    stop_after_seconds: float | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> None:
    """Writes a video with its heat map over it and its sound in it, in the video's own size.

    One color scale holds for the whole video: silent moments stay dark beside sounding ones.
    The map is interpolated between its instants and drawn over the whole frame, whose shape is kept.
    Under it run the confidence (the map's highest cosine, on its own absolute axis), the waveform,
    and the numbers that the colors stand for. Pictures and sound pass through a few at a time, however
    long the video.

    Args:
        reader: The video the map was made from.
        heatmap: At least one map, as from :func:`avssl.localization.localize`; or several of the same
            video by title, drawn beside each other on one scale.
        out_path: The mp4 file; replaced if it exists.
        scale: What the colors stand for.
        look: How it is drawn.
        audio_from: As it was for the (first) map: the result sounds as what was looked for.
        stop_after_seconds: As it was for the map: end this long after the first frame.
        on_progress: Called with the number of frames drawn, and of all.

    Raises:
        MediaError: If the video or the sound cannot be read.
        ValueError: If an option is out of range.
    """
    maps = _by_title(heatmap)
    start, stop = _span(reader, stop_after_seconds)
    fps = reader.info.video_fps or 25.0
    num_frames = max(1, round((stop - start) * fps))
    # The middle of each frame's time, so that rounding never shows its neighbor.
    seconds = [start + (number + 0.5) / fps for number in range(num_frames)]
    sound = _Sound(AudioWindows(reader, audio_from), start, num_frames / fps)
    short_side, composition = _compose(reader, maps, (start, stop), scale, look, sound.envelope())

    def drawn() -> Iterator[Planes]:
        with closing(prefetch(reader.stream_planes(seconds, short_side), _AHEAD)) as pictures:
            for number, (second, picture) in enumerate(zip(seconds, pictures, strict=True)):
                yield composition.draw(second, picture)
                if on_progress is not None:
                    on_progress(number + 1, num_frames)

    interval = max(1, round(2 * fps))
    with _one_thread():
        write_video(
            out_path,
            drawn(),
            fps,
            sound.stream(),
            sound.rate,
            crf=_CRF,
            keyframe_interval=interval,
            threads=_ENCODER_THREADS,
        )


def overlay_picture(
    reader: MediaReader,
    heatmap: Heatmap | Mapping[str, Heatmap],
    out_path: str | os.PathLike[str],
    *,
    scale: Scale = "video",
    look: Look = Look(),  # noqa: B008  (frozen)
    audio_from: AudioSource = None,
    stop_after_seconds: float | None = None,
    at_seconds: float | None = None,
) -> None:
    """Writes one frame of what :func:`overlay_video` would write, as a PNG.

    Args:
        reader: As for :func:`overlay_video`.
        heatmap: As for :func:`overlay_video`.
        out_path: The PNG file; replaced if it exists.
        scale: As for :func:`overlay_video`.
        look: As for :func:`overlay_video`.
        audio_from: As for :func:`overlay_video`.
        stop_after_seconds: As for :func:`overlay_video`.
        at_seconds: Which moment; by default the one at which the (first) map is surest.

    Raises:
        MediaError: If the video or the sound cannot be read.
        ValueError: If an option is out of range.
    """
    maps = _by_title(heatmap)
    span = _span(reader, stop_after_seconds)
    sound = _Sound(AudioWindows(reader, audio_from), span[0], span[1] - span[0])
    short_side, composition = _compose(reader, maps, span, scale, look, sound.envelope())
    first = next(iter(maps.values()))
    second = float(first.at_seconds[first.confidence.argmax()]) if at_seconds is None else at_seconds
    with closing(reader.stream_planes([second], short_side)) as pictures:
        write_image(out_path, to_rgb(composition.draw(second, next(pictures))))


@contextmanager
def _one_thread() -> Iterator[None]:
    """The decoder and the encoder have threads of their own; torch's, on small matrices, would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Sound:
    """What is heard, from the first frame on, at a rate that AAC has, a second at a time."""

    def __init__(self, sounds: AudioWindows, start: float, duration_seconds: float) -> None:
        own_rate, channels = sounds.own_format
        self.rate = own_rate if own_rate in AAC_RATES else 48_000
        self._sounds, self._start, self._channels = sounds, start, min(channels, 2)
        self._num_samples = max(1, round(duration_seconds * self.rate))

    def stream(self) -> Iterator[Tensor]:
        """(C, S) each."""
        return self._sounds.stream(self._start, self._num_samples, self.rate, self._channels)

    def envelope(self) -> Tensor:
        """Of the waveform, from a pass over all of it."""
        return sound_envelope(self.stream(), self._num_samples, min(_COLUMNS, self._num_samples))


def _by_title(heatmap: Heatmap | Mapping[str, Heatmap]) -> Mapping[str, Heatmap]:
    return {"": heatmap} if isinstance(heatmap, Heatmap) else heatmap


def _span(reader: MediaReader, stop_after_seconds: float | None) -> tuple[float, float]:
    """Start and stop of what is drawn."""
    info = reader.info
    if info.video_start_seconds is None or info.video_stop_seconds is None:
        raise MediaError(info.path, "video", "no_video", "there is no video stream.", "Open the file the map is of.")
    if stop_after_seconds is not None and not stop_after_seconds > 0:
        raise InputError(f"stop_after_seconds ({stop_after_seconds}) must be greater than 0.")
    limit = math.inf if stop_after_seconds is None else info.video_start_seconds + stop_after_seconds
    return info.video_start_seconds, min(info.video_stop_seconds, limit)


def _compose(
    reader: MediaReader,
    maps: Mapping[str, Heatmap],
    span: tuple[float, float],
    scale: Scale,
    look: Look,
    envelope: Tensor,
) -> tuple[int | None, Composition]:
    """The short side to decode at, None for the file's own, and what draws on such pictures."""
    info = reader.info
    width = len(maps) * (info.width or 1)
    short, long = sorted((info.height or 1, info.width or 1))
    limit = max(WIDEST, info.width or 1)
    short_side = math.floor(short * limit / width) if width > limit else None
    enlarge = max(1, min(math.ceil(SMALLEST_SIDE / short), LONGEST_SIDE // max(long, width)))
    with closing(reader.stream_planes(span[:1], short_side)) as pictures:
        frame_hw = next(pictures).size
    return short_side, Composition(maps, frame_hw, enlarge, span, scale, look, envelope)
