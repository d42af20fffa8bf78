"""Heat maps drawn on their video, as an mp4 with audio or as one image."""

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
"""Pixels. Videos with a shorter side below 360 are enlarged by an integer factor until they reach it (or the output
would be wider than 1280); all others keep their size."""
WIDEST = 4096
"""Pixels. Frames beside each other that would be wider together, and wider than the video, are reduced."""

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
    """Write a video with its heat map and its audio.

    Frames keep their size, except that those with a short side below 360 pixels are enlarged by a whole factor, up to
    a width of 1280 pixels, and that several maps beside each other are reduced to 4096 pixels together.

    One color scale holds for the whole video, so silent moments stay dark beside sounding ones. The map is interpolated
    in time and drawn over the whole frame. Below are the confidence (the map's highest cosine, on its own axis), the
    waveform, and the color scale. Memory does not grow with the length of the video.

    Args:
        reader: The video the map was made from.
        heatmap: A heat map, as from :func:`avssl.localize`; or several of the same video by title, drawn beside each
            other on one scale.
        out_path: The mp4 file; replaced if it exists.
        scale: Color scale.
        look: Drawing options.
        audio_from: Audio of the output, usually that of the (first) map.
        stop_after_seconds: Stop this long after the first frame, as for the map.
        on_progress: Called with (frames drawn, frames in all).

    Raises:
        MediaError: If the video or the audio cannot be read.
        InputError: If an option is out of range.

    Example:
        >>> heatmap = avssl.localize("video.mp4", "runs/first")
        >>> with avssl.open_media("video.mp4") as reader:
        ...     overlay_video(reader, heatmap, "map.mp4", stop_after_seconds=0.5)
        >>> with avssl.open_media("map.mp4") as drawn:
        ...     print(drawn.info.width, drawn.info.has_audio)  # frames of 48 x 48 pixels are enlarged 8 times
        384 True
    """
    maps = _by_title(heatmap)
    start, stop = _span(reader, stop_after_seconds)
    fps = reader.info.video_fps or 25.0
    num_frames = max(1, round((stop - start) * fps))
    # The middle of each frame's time, so that rounding never selects its neighbor.
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
    """Write one frame of the output of :func:`overlay_video`, whose other arguments it takes, as a PNG.

    Args:
        out_path: The PNG file; replaced if it exists.
        at_seconds: Presentation time; None takes the most confident time of the (first) map.

    Raises:
        MediaError: If the video or the audio cannot be read.
        InputError: If an option is out of range.

    Example:
        >>> from pathlib import Path
        >>> heatmap = avssl.localize("video.mp4", "runs/first")
        >>> with avssl.open_media("video.mp4") as reader:
        ...     overlay_picture(reader, heatmap, "map.png")
        >>> Path("map.png").is_file()
        True
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
    """Use one thread of torch: its threads would only wait on small matrices, beside those of decoder and encoder."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Sound:
    """Audio of the output from the first frame on, at a rate that AAC has, a second at a time."""

    def __init__(self, sounds: AudioWindows, start: float, duration_seconds: float) -> None:
        own_rate, channels = sounds.own_format
        self.rate = own_rate if own_rate in AAC_RATES else 48_000
        self._sounds, self._start, self._channels = sounds, start, min(channels, 2)
        self._num_samples = max(1, round(duration_seconds * self.rate))

    def stream(self) -> Iterator[Tensor]:
        """Yield (C, S) chunks."""
        return self._sounds.stream(self._start, self._num_samples, self.rate, self._channels)

    def envelope(self) -> Tensor:
        """Compute the envelope of the whole waveform."""
        return sound_envelope(self.stream(), self._num_samples, min(_COLUMNS, self._num_samples))


def _by_title(heatmap: Heatmap | Mapping[str, Heatmap]) -> Mapping[str, Heatmap]:
    return {"": heatmap} if isinstance(heatmap, Heatmap) else heatmap


def _span(reader: MediaReader, stop_after_seconds: float | None) -> tuple[float, float]:
    """Return start and stop of the drawn part."""
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
    """Return the short side to decode at (None for the file's own), and the composition for such frames."""
    info = reader.info
    width = len(maps) * (info.width or 1)
    short, long = sorted((info.height or 1, info.width or 1))
    limit = max(WIDEST, info.width or 1)
    short_side = math.floor(short * limit / width) if width > limit else None
    enlarge = max(1, min(math.ceil(SMALLEST_SIDE / short), LONGEST_SIDE // max(long, width)))
    with closing(reader.stream_planes(span[:1], short_side)) as pictures:
        frame_hw = next(pictures).size
    return short_side, Composition(maps, frame_hw, enlarge, span, scale, look, envelope)
