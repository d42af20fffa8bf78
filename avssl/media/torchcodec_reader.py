"""The torchcodec reader, which needs a system FFmpeg. PyAV reads or reports what torchcodec cannot read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torchcodec.decoders import AudioDecoder, VideoDecoder

from avssl.core.errors import RunError
from avssl.media.limits import MediaLimits
from avssl.media.pyav_backed_reader import PyAVBackedReader, resize_frames
from avssl.media.reader import ROUNDING_SECONDS

_log = logging.getLogger(__name__)
_told: set[tuple[str, str]] = set()
"""Kinds of fallbacks that were logged; one line of each kind is enough for a dataset."""

# AudioDecoder decodes from the start of the file for every window, about 0.3 ms for each second of audio.
_AUDIO_SECONDS = 60.0

# Containers in which FFmpeg's seek ends on a keyframe. In others (MPEG transport streams, Ogg ...) it ends anywhere
# near the time, and torchcodec returns what it can decode from there: later frames, or gray ones.
_SEEKS_TO_KEYFRAMES = ("mov,mp4", "matroska", "avi", "flv", "asf")


class TorchCodecReader(PyAVBackedReader):
    """Reads one file through torchcodec; see :class:`avssl.media.MediaReader`.

    PyAV reads what torchcodec cannot, or not well, with the same result: video in containers whose seeks
    miss keyframes, video that torchcodec begins to decode too late (as with intra refresh, where a seek is
    followed by frames that cannot be shown yet), video stored mirrored, audio that begins more than a minute
    into the file (PyAV can seek) and audio in containers that count milliseconds (torchcodec rounds to them).
    :attr:`fallback` and the log say so.

    Args:
        path: A local regular file.
        limits: Limits on the file.

    Raises:
        MediaError: See :class:`avssl.media.pyav.reader.PyAVReader`.
    """

    def __init__(self, path: Path, limits: MediaLimits) -> None:
        super().__init__(path, limits)
        self.fallback: dict[str, str] = {}
        """``"video"`` or ``"audio"`` → why PyAV reads that stream of this file instead."""

    def _read_frames(self, times: list[float], short_side: int | None) -> Tensor:
        if times and "video" not in self.fallback:
            try:
                frames = self._decode_frames(times)
            except (RuntimeError, ValueError, IndexError) as error:
                self._fall_back("video", error)
            else:
                assert self._pyav.video is not None
                return self._resized(frames, self._pyav.video.size(short_side))
        return self._pyav.read_frames(times, short_side)

    def _decode_frames(self, times: list[float]) -> Tensor:
        track = self._pyav.video
        assert track is not None
        if not track.orientation.is_rotation:
            raise _UnsupportedError("torchcodec does not turn mirrored frames")
        if track.clock_fault is not None:
            raise _UnsupportedError(track.clock_fault)
        if not self._pyav.source.container.format.name.startswith(_SEEKS_TO_KEYFRAMES):
            raise _UnsupportedError("torchcodec does not seek to keyframes in this container")
        if self._video is None:
            self._video = self._open_video(track.index)
        metadata = self._video.metadata
        first, stop = metadata.begin_stream_seconds, metadata.end_stream_seconds
        if max(times) > stop + 0.5 / (metadata.average_fps or 1):
            raise _UnsupportedError(f"torchcodec found frames up to {stop:.3f} s")
        last = stop - ROUNDING_SECONDS
        requested = [min(max(t + ROUNDING_SECONDS, first), last) for t in times]
        if self._is_far_from_a_keyframe(requested):
            raise _UnsupportedError("torchcodec cannot be stopped on the long way from a keyframe")
        return self._in_pieces(requested, self._decode_piece)

    def _open_video(self, stream_index: int) -> Any:
        # "approximate" would take frame numbers from the header, wrong for varying rates.
        return VideoDecoder(self._path, stream_index=stream_index, seek_mode="exact")

    def _resized(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        return resize_frames(frames, size)

    def _decode_piece(self, requested: list[float]) -> Tensor:
        batch = self._video.get_frames_played_at(requested)
        # It returns the first frame that it can decode at or after the right one.
        if any(begins > t for begins, t in zip(batch.pts_seconds.tolist(), requested, strict=True)):
            raise _UnsupportedError("torchcodec returns later frames than requested")
        frames: Tensor = batch.data
        return frames

    def _read_samples(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        track = self._pyav.audio
        assert track is not None
        if first <= _AUDIO_SECONDS * track.rate and track.clock_is_exact and "audio" not in self.fallback:
            try:
                return self._decode_samples(first, stop, needed_stop)
            except (RuntimeError, ValueError, IndexError) as error:
                self._fall_back("audio", error)
        return track.read(first, stop, needed_stop)

    def _decode_samples(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        track = self._pyav.audio
        assert track is not None
        if self._audio is None:
            self._audio = AudioDecoder(self._path, stream_index=track.index)
        start, rate = track.start_seconds, track.rate
        samples = self._audio.get_samples_played_in_range(start + first / rate, start + stop / rate)
        skipped = round((samples.pts_seconds - start) * rate) - first
        if samples.sample_rate != rate or skipped != 0 or samples.data.shape[1] < needed_stop - first:
            raise _UnsupportedError("torchcodec returned another window of audio than requested")
        self._pyav.source.deadline.check()
        decoded: np.ndarray = samples.data.numpy()
        return decoded

    def _fall_back(self, stream: str, error: Exception) -> None:
        """Let PyAV read this stream from now on; it either succeeds or reports precisely what is wrong."""
        lines = str(error).strip().splitlines()
        self.fallback[stream] = reason = lines[0] if lines else type(error).__name__
        kind = reason if isinstance(error, _UnsupportedError) else type(error).__name__
        self._tell(stream, kind, f"PyAV decodes its {stream} instead of torchcodec: {reason}")

    def _tell(self, stream: str, kind: str, text: str) -> None:
        """Log a fallback, loudly if it is the first of its kind."""
        level = logging.DEBUG if (stream, kind) in _told else logging.INFO
        _told.add((stream, kind))
        _log.log(level, "%s: %s", self._path, text)


class _UnsupportedError(RunError):
    """A file that torchcodec would read wrongly; PyAV reads it, so no user sees this."""
