"""The torchcodec reader, which ``backend="auto"`` prefers where torchcodec and a system FFmpeg load.

The file is opened by the PyAV reader first, which vouches for its kind (torchcodec would follow a playlist onto
the network) and gives the same :class:`MediaInfo`. What torchcodec cannot read, PyAV then reads or reports.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchcodec.decoders import AudioDecoder, VideoDecoder

from avssl.core.errors import InputError
from avssl.media.planes import Planes
from avssl.media.pyav.reader import PyAVReader
from avssl.media.pyav.sound import read_window
from avssl.media.reader import ROUNDING_SECONDS, MediaInfo, audio_window, clamp_times

_log = logging.getLogger(__name__)

# AudioDecoder decodes from the start of the file whatever is asked, about 0.3 ms for each second of sound.
_SOUND_SECONDS = 60.0


class TorchCodecReader:
    """Reads one file through torchcodec; see :class:`avssl.media.MediaReader`.

    PyAV reads what torchcodec cannot, or not well, with the same result: sound that begins more than
    a minute into the file (PyAV can seek), sound in containers that count milliseconds (torchcodec
    rounds to them), and pictures stored mirrored.

    Args:
        path: A local regular file.
        max_pixels: Largest width * height that is decoded.
        max_duration_seconds: Longest file that is opened.

    Raises:
        MediaError: As the PyAV reader.
    """

    def __init__(self, path: Path, *, max_pixels: int, max_duration_seconds: float) -> None:
        self._pyav = PyAVReader(path, max_pixels=max_pixels, max_duration_seconds=max_duration_seconds)
        self._path = str(path.absolute())
        self._video: VideoDecoder | None = None
        self._audio: AudioDecoder | None = None
        self.fallback: dict[str, str] = {}
        """``"video"`` or ``"audio"`` to why PyAV reads that track of this file instead."""

    @property
    def info(self) -> MediaInfo:
        """Spans, sizes and rates, as the PyAV reader gives them."""
        return self._pyav.info

    def read_frames(self, at_seconds: Sequence[float], short_side: int | None = None) -> Tensor:
        """See :meth:`avssl.media.MediaReader.read_frames`."""
        times = clamp_times(self._pyav.info, at_seconds)
        if times and "video" not in self.fallback:
            try:
                frames = self._decode(times)
            except (RuntimeError, ValueError, IndexError) as error:
                self._fall_back("video", error)
            else:
                return _resize(frames, self._pyav.size(short_side))
        return self._pyav.read_frames(times, short_side)

    def _decode(self, times: list[float]) -> Tensor:
        if not self._pyav.upright.is_rotation:
            raise InputError("torchcodec does not turn mirrored pictures")
        if misleading := self._pyav.video_clock:
            raise InputError(misleading)
        if self._video is None:
            # "approximate" would take frame numbers from the header, wrong for varying rates.
            self._video = VideoDecoder(self._path, stream_index=self._pyav.video_index, seek_mode="exact")
        metadata = self._video.metadata
        first, stop = metadata.begin_stream_seconds, metadata.end_stream_seconds
        if max(times) > stop + 0.5 / (metadata.average_fps or 1):
            raise InputError(f"torchcodec found frames up to {stop:.3f} s")
        last = stop - ROUNDING_SECONDS
        return self._video.get_frames_played_at([min(max(t + ROUNDING_SECONDS, first), last) for t in times]).data

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
        info = self._pyav.info
        audio_window(info, start_seconds, stop_seconds, sample_rate_hz)
        late = start_seconds > (info.audio_start_seconds or 0.0) + _SOUND_SECONDS
        if not late and self._pyav.audio_clock_is_exact and "audio" not in self.fallback:
            try:
                return read_window(
                    self._samples,
                    info,
                    self._pyav.audio_layout,
                    start_seconds,
                    stop_seconds,
                    sample_rate_hz,
                    num_channels,
                )
            except (RuntimeError, ValueError, IndexError) as error:
                self._fall_back("audio", error)
        return self._pyav.read_audio(start_seconds, stop_seconds, sample_rate_hz, num_channels)

    def _samples(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        """See :data:`avssl.media.pyav.sound.ReadWindow`."""
        info = self._pyav.info
        assert info.audio_start_seconds is not None
        assert info.audio_sample_rate_hz is not None
        if self._audio is None:
            self._audio = AudioDecoder(self._path, stream_index=self._pyav.audio_index)
        start, rate = info.audio_start_seconds, info.audio_sample_rate_hz
        samples = self._audio.get_samples_played_in_range(start + first / rate, start + stop / rate)
        skipped = round((samples.pts_seconds - start) * rate) - first
        if samples.sample_rate != rate or skipped != 0 or samples.data.shape[1] < needed_stop - first:
            raise RuntimeError("torchcodec gave another window of the sound than was asked")
        return samples.data.numpy()

    def _fall_back(self, stream: str, error: Exception) -> None:
        """PyAV takes over for this track; it either reads it or says precisely what is wrong."""
        lines = str(error).strip().splitlines()
        self.fallback[stream] = lines[0] if lines else type(error).__name__
        _log.debug("%s: %s: torchcodec gives way to PyAV: %s", self._path, stream, self.fallback[stream])

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


def _resize(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """``(T, 3, h, w)`` uint8 to ``(T, 3, *size)``; torchcodec's own Resize is 20 times slower."""
    if frames.shape[-2:] != torch.Size(size):
        frames = F.interpolate(frames, size=size, mode="bilinear", antialias=True, align_corners=False)
    return frames.contiguous()
