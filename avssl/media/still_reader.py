"""A still picture that is looked at like a video."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Self

from torch import Tensor

from avssl.core.errors import InputError
from avssl.media.picture_file import read_picture
from avssl.media.planes import Planes, to_planes
from avssl.media.reader import MAX_PIXELS, MediaInfo, ascending_times, audio_window, clamp_times


class StillReader:
    """The same picture at every time of a span that begins at 0 s; see :class:`avssl.media.MediaReader`. No sound.

    Args:
        path: A JPEG, PNG, WebP or BMP file.
        duration_seconds: Length of the span, > 0.
        video_fps: Stated frames per second.
        max_pixels: Largest width * height that is decoded.

    Raises:
        MediaError: As :func:`avssl.media.read_picture`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        duration_seconds: float,
        *,
        video_fps: float = 25.0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if not duration_seconds > 0:
            raise InputError(f"duration_seconds ({duration_seconds}) must be greater than 0.")
        self._path, self._max_pixels = path, max_pixels
        self._picture = read_picture(path, max_pixels=max_pixels)
        self.info = MediaInfo(
            path=str(path),
            duration_seconds=duration_seconds,
            video_start_seconds=0.0,
            video_stop_seconds=duration_seconds,
            video_fps=video_fps,
            width=self._picture.shape[2],
            height=self._picture.shape[1],
            video_codec=None,
            audio_start_seconds=None,
            audio_stop_seconds=None,
            audio_sample_rate_hz=None,
            audio_num_channels=None,
            audio_codec=None,
        )

    def _at(self, short_side: int | None) -> Tensor:
        if short_side is None:
            return self._picture
        return read_picture(self._path, short_side, max_pixels=self._max_pixels)

    def read_frames(self, at_seconds: Sequence[float], short_side: int | None = None) -> Tensor:
        """See :meth:`avssl.media.MediaReader.read_frames`."""
        times = clamp_times(self.info, at_seconds)
        return self._at(short_side).expand(len(times), -1, -1, -1).clone()

    def stream_frames(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Tensor, None, None]:
        """See :meth:`avssl.media.MediaReader.stream_frames`."""
        picture = self._at(short_side)
        for _ in ascending_times(self.info, at_seconds):
            yield picture

    def stream_planes(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Planes, None, None]:
        """See :meth:`avssl.media.MediaReader.stream_planes`."""
        planes = to_planes(self._at(short_side))
        for _ in ascending_times(self.info, at_seconds):
            yield planes

    def read_audio(
        self, start_seconds: float, stop_seconds: float, sample_rate_hz: int | None = None, num_channels: int = 1
    ) -> Tensor:
        """Raises the :class:`MediaError` of a file without sound."""
        audio_window(self.info, start_seconds, stop_seconds, sample_rate_hz)
        raise AssertionError("unreachable: there is no sound track")

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
