"""A still image that is read like a video."""

from __future__ import annotations

import os
from collections.abc import Generator

import numpy as np
from torch import Tensor

from avssl.core.errors import InputError
from avssl.media.image_file import read_image
from avssl.media.info import MediaInfo
from avssl.media.limits import MediaLimits
from avssl.media.reader import MediaReader


class ImageReader(MediaReader):
    """Shows the same image for a while, without audio; see :class:`avssl.media.MediaReader`.

    Args:
        path: A JPEG, PNG, WebP or BMP file.
        duration_seconds: Length of the span, > 0.
        start_seconds: Presentation time from which on the image is shown.
        video_fps: Nominal frames per second.
        limits: Limits on the image; default: those of :class:`~avssl.media.MediaLimits`.

    Raises:
        MediaError: See :func:`avssl.media.read_image`.
        ValueError: If ``duration_seconds`` is not above 0.

    Example:
        >>> write_image("black.png", torch.zeros(3, 48, 64, dtype=torch.uint8))
        >>> reader = ImageReader("black.png", duration_seconds=2.0)
        >>> reader.read_frames([0.0, 1.0, 1.5]).shape, reader.info.has_audio
        (torch.Size([3, 3, 48, 64]), False)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        duration_seconds: float,
        *,
        start_seconds: float = 0.0,
        video_fps: float = 25.0,
        limits: MediaLimits | None = None,
    ) -> None:
        if not duration_seconds > 0:
            raise InputError(f"duration_seconds ({duration_seconds}) must be greater than 0.")
        self._path, self._limits = path, limits
        self._image = read_image(path, limits=limits)
        self._info = MediaInfo(
            path=str(path),
            duration_seconds=duration_seconds,
            video_start_seconds=start_seconds,
            video_stop_seconds=start_seconds + duration_seconds,
            video_fps=video_fps,
            width=self._image.shape[2],
            height=self._image.shape[1],
            video_codec=None,
            audio_start_seconds=None,
            audio_stop_seconds=None,
            audio_sample_rate_hz=None,
            audio_num_channels=None,
            audio_codec=None,
        )

    @property
    def info(self) -> MediaInfo:
        """Span and size of the image."""
        return self._info

    def _resized(self, short_side: int | None) -> Tensor:
        if short_side is None:
            return self._image
        return read_image(self._path, short_side, limits=self._limits)

    def _read_frames(self, times: list[float], short_side: int | None) -> Tensor:
        return self._resized(short_side).expand(len(times), -1, -1, -1).clone()

    def _stream_frames(self, times: list[float], short_side: int | None) -> Generator[Tensor, None, None]:
        image = self._resized(short_side)
        for _ in times:
            yield image

    def _read_samples(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        raise AssertionError("unreachable: there is no audio stream")
