"""The decord reader, on request only: decord is unmaintained, hangs on some files and knows no AV1.

Its FFmpeg is that of 2019. Pictures are indexed by its own timestamps; sound is decoded whole on the first use.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import decord
import numpy as np
import torch
import torch.nn.functional as F
from decord import DECORDError
from torch import Tensor

from avssl.media.planes import Planes
from avssl.media.pyav.reader import PyAVReader
from avssl.media.pyav.sound import read_window
from avssl.media.reader import ROUNDING_SECONDS, MediaError, MediaInfo, clamp_times

_END_SECONDS = 0.1


class DecordReader:
    """Reads one file through decord; see :class:`avssl.media.MediaReader`.

    It refuses what decord is known to get wrong: pictures stored turned or mirrored, sound of more
    than one channel (decord gives unset memory), times after the last frame it finds, files with
    several tracks of a kind, and containers and codecs in which it seeks to other frames. Open GOPs
    cannot be told beforehand: there decord gives wrong frames near keyframes.

    Args:
        path: A local regular file.
        max_pixels: Largest width * height that is decoded.
        max_duration_seconds: Longest file that is opened.

    Raises:
        MediaError: As the PyAV reader.
    """

    def __init__(self, path: Path, *, max_pixels: int, max_duration_seconds: float) -> None:
        self._pyav = PyAVReader(path, max_pixels=max_pixels, max_duration_seconds=max_duration_seconds)
        self._path = os.path.abspath(path)
        self._video: Any = None
        self._shown: np.ndarray | None = None  # (N, 2) start and stop of each frame
        self._audio: np.ndarray | None = None

    @property
    def info(self) -> MediaInfo:
        """Spans, sizes and rates, as the PyAV reader gives them."""
        return self._pyav.info

    def read_frames(self, at_seconds: Sequence[float], short_side: int | None = None) -> Tensor:
        """See :meth:`avssl.media.MediaReader.read_frames`."""
        times = clamp_times(self.info, at_seconds)
        size = self._pyav.size(short_side)
        if self._pyav.upright != type(self._pyav.upright)():
            self._refuse("video", "decord does not turn pictures upright.", None)
        if misseeks := self._misseeks():
            self._refuse("video", misseeks, None)
        if not times:
            return torch.empty(0, 3, *size, dtype=torch.uint8)
        try:
            frames = self._decode(times)
        except (DECORDError, RuntimeError, IndexError) as error:
            self._refuse("video", f"decord failed ({str(error).strip().splitlines()[0]}).", times[0])
        pictures = torch.from_numpy(frames).permute(0, 3, 1, 2)
        if pictures.shape[-2:] != torch.Size(size):
            pictures = F.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False)
        return pictures.contiguous()

    def _misseeks(self) -> str | None:
        """What makes decord find wrong frames in this file, if anything is known."""
        if self._pyav.num_tracks("video") > 1:
            return "decord cannot be told which of several picture tracks to read."
        if reason := self._pyav.video_clock:
            return f"{reason}."
        if "mpegts" in self._pyav.container_format:
            return "decord seeks to wrong frames in MPEG transport streams."
        if self._pyav.has_reordered_frames and str(self.info.video_codec).startswith("mpeg"):
            return "decord seeks to wrong frames in MPEG video with B-frames."
        return None

    def _decode(self, times: list[float]) -> np.ndarray:
        if self._shown is None:
            self._video = decord.VideoReader(self._path, ctx=decord.cpu(0), num_threads=1)
            self._shown = self._video.get_frame_timestamp(np.arange(len(self._video)))
            if self._shown[0, 0] < -ROUNDING_SECONDS:
                raise RuntimeError("its frames begin before the edit list lets them")
            # Its clock starts with the first frame.
            self._shown = self._shown + (self.info.video_start_seconds - self._shown[0, 0])
        assert self._shown is not None
        if max(times) > self._shown[-1, 1] + _END_SECONDS:
            raise IndexError(f"its frames end at {self._shown[-1, 1]:.3f} s")
        found = np.searchsorted(self._shown[:, 0], np.asarray(times) + ROUNDING_SECONDS, side="right") - 1
        frames: np.ndarray = self._video.get_batch(np.maximum(found, 0)).asnumpy()
        return frames

    def stream_frames(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Tensor, None, None]:
        """See :meth:`avssl.media.MediaReader.stream_frames`; PyAV's, which decodes no more than is asked for."""
        return self._pyav.stream_frames(at_seconds, short_side)

    def stream_planes(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Planes, None, None]:
        """See :meth:`avssl.media.MediaReader.stream_planes`."""
        return self._pyav.stream_planes(at_seconds, short_side)

    def read_audio(
        self, start_seconds: float, stop_seconds: float, sample_rate_hz: int | None = None, num_channels: int = 1
    ) -> Tensor:
        """See :meth:`avssl.media.MediaReader.read_audio`."""
        return read_window(
            self._samples,
            self.info,
            self._pyav.audio_layout,
            start_seconds,
            stop_seconds,
            sample_rate_hz,
            num_channels,
        )

    def _samples(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        """See :data:`avssl.media.pyav.sound.ReadWindow`."""
        if self.info.audio_num_channels != 1:
            self._refuse("audio", "decord garbles sound of more than one channel.", None)
        if self._pyav.num_tracks("audio") > 1:
            self._refuse("audio", "decord cannot be told which of several sound tracks to read.", None)
        if not self._pyav.audio_clock_is_exact:
            self._refuse("audio", "decord counts the encoder's priming as sound in Matroska.", None)
        if self._audio is None:
            try:
                self._audio = decord.AudioReader(self._path, ctx=decord.cpu(0), mono=False)[:].asnumpy()
            except (DECORDError, RuntimeError, IndexError) as error:
                self._refuse("audio", f"decord failed ({str(error).strip().splitlines()[0]}).", None)
        assert self._audio is not None
        if self._audio.shape[1] < needed_stop:
            self._refuse("audio", f"decord found {self._audio.shape[1]} samples, not {needed_stop}.", None)
        return self._audio[:, first:stop]

    def _refuse(self, stream: str, found: str, second: float | None) -> NoReturn:
        raise MediaError(self.info.path, stream, "unreadable", found, 'Open it with backend="pyav".', second)

    def close(self) -> None:
        """Releases the file."""
        self._video = self._audio = None
        self._pyav.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
