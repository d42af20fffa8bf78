"""An image or video, and the audio of another file, read like one file."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from avssl.media.backends import BackendName
from avssl.media.errors import MediaError
from avssl.media.image_file import is_image
from avssl.media.image_reader import ImageReader
from avssl.media.info import MediaInfo
from avssl.media.limits import MediaLimits
from avssl.media.opening import open_media
from avssl.media.planes import Planes
from avssl.media.reader import MediaReader


class PairedReader(MediaReader):
    """Takes the frames of one reader and the audio of another, on one clock; see :class:`avssl.media.MediaReader`.

    Args:
        video: Reader of the frames; its audio is not used.
        audio: Reader of the audio; its video is not used.

    Raises:
        MediaError: If ``video`` has no video, or ``audio`` no audio.
    """

    def __init__(self, video: MediaReader, audio: MediaReader) -> None:
        self._video, self._audio = video, audio
        seen, heard = video.info, audio.info
        if seen.video_start_seconds is None or seen.video_stop_seconds is None:
            advice = "Name a file with video, or an image, in the column path."
            raise MediaError(seen.path, "video", "no_video", "there is no video stream.", advice)
        if heard.audio_start_seconds is None or heard.audio_stop_seconds is None:
            advice = "Name a file with audio in the column audio_path."
            raise MediaError(heard.path, "audio", "no_audio", "there is no audio stream.", advice)
        start = min(seen.video_start_seconds, heard.audio_start_seconds)
        self._info = replace(
            seen,
            path=f"{seen.path} with {heard.path}",
            duration_seconds=max(seen.video_stop_seconds, heard.audio_stop_seconds) - start,
            audio_start_seconds=heard.audio_start_seconds,
            audio_stop_seconds=heard.audio_stop_seconds,
            audio_sample_rate_hz=heard.audio_sample_rate_hz,
            audio_num_channels=heard.audio_num_channels,
            audio_codec=heard.audio_codec,
        )

    @property
    def info(self) -> MediaInfo:
        """Video of the one file and audio of the other; the path names both."""
        return self._info

    def read_frames(self, at_seconds: Sequence[float], short_side: int | None = None) -> Tensor:
        return self._video.read_frames(at_seconds, short_side)

    def stream_frames(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Tensor, None, None]:
        return self._video.stream_frames(at_seconds, short_side)

    def stream_planes(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Planes, None, None]:
        return self._video.stream_planes(at_seconds, short_side)

    def read_audio(
        self, start_seconds: float, stop_seconds: float, sample_rate_hz: int | None = None, num_channels: int = 1
    ) -> Tensor:
        return self._audio.read_audio(start_seconds, stop_seconds, sample_rate_hz, num_channels)

    @property
    def notes(self) -> list[str]:
        return self._audio.notes

    def close(self) -> None:
        """Release both files."""
        self._video.close()
        self._audio.close()

    def _read_frames(self, times: list[float], short_side: int | None) -> Tensor:
        raise AssertionError("unreachable: the public methods are those of the two readers")

    def _read_samples(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        raise AssertionError("unreachable: the public methods are those of the two readers")


def open_pair(
    video: str | os.PathLike[str],
    audio: str | os.PathLike[str],
    backend: BackendName = "auto",
    *,
    limits: MediaLimits | None = None,
) -> MediaReader:
    """Open a video or an image together with the file of its audio; an image lasts as long as the audio.

    Args:
        video: The video or image.
        audio: The audio, or a video whose audio is used.
        backend: Decoder of media files.
        limits: Limits on both files; default: those of :class:`~avssl.media.MediaLimits`.

    Raises:
        MediaError: As :func:`avssl.media.open_media` and :class:`PairedReader`.

    Example:
        >>> write_image("black.png", torch.zeros(3, 48, 64, dtype=torch.uint8))
        >>> with open_pair("black.png", "video.mp4") as reader:
        ...     frames, audio = reader.read_frames([0.0, 1.0]), reader.read_audio(0.0, 1.0, sample_rate_hz=16000)
        >>> frames.shape, audio.shape
        (torch.Size([2, 3, 48, 64]), torch.Size([1, 16000]))
    """
    sound = open_media(audio, backend, limits=limits)
    try:
        return PairedReader(_open_video(video, sound.info, backend, limits), sound)
    except BaseException:
        sound.close()
        raise


def _open_video(
    video: str | os.PathLike[str], heard: MediaInfo, backend: BackendName, limits: MediaLimits | None
) -> MediaReader:
    if not is_image(video):
        return open_media(video, backend, limits=limits)
    start, stop = heard.audio_start_seconds or 0.0, heard.audio_stop_seconds or heard.duration_seconds
    return ImageReader(video, stop - start, start_seconds=start, limits=limits)
