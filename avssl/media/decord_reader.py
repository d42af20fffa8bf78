"""The decord reader, for comparison: decord is unmaintained, hangs on some files and cannot decode AV1.

Its FFmpeg is from 2019. Frames are indexed by its own timestamps; audio is decoded whole on the first use.
"""

from __future__ import annotations

from typing import NoReturn

import decord
import numpy as np
import torch
from decord import DECORDError
from torch import Tensor

from avssl.media.errors import MediaError
from avssl.media.pyav.keyframes import stand_alone
from avssl.media.pyav.video_track import Orientation, VideoTrack
from avssl.media.pyav_backed_reader import PyAVBackedReader, resize_frames
from avssl.media.reader import ROUNDING_SECONDS

_END_SECONDS = 0.1


class DecordReader(PyAVBackedReader):
    """Reads one file through decord; see :class:`avssl.media.MediaReader`.

    It raises an error for what decord is known to get wrong: video stored turned or mirrored, audio of more
    than one channel (decord returns unset memory), times after the last frame it finds, files with
    several streams of a kind, and containers, codecs and keyframes (open GOP, intra refresh) with which it
    seeks to other frames.
    """

    _refusal: str | None = None  # why decord cannot read the video; "" if it can, None before the first read

    def _read_frames(self, times: list[float], short_side: int | None) -> Tensor:
        track = self._pyav.video
        assert track is not None
        size = track.size(short_side)
        if self._refusal is None:
            self._refusal = self._unsupported_video(track) or ""
        if self._refusal:
            self._fail("video", self._refusal, None)
        if not times:
            return torch.empty(0, 3, *size, dtype=torch.uint8)
        try:
            frames = self._decode(times)
        except (DECORDError, RuntimeError, IndexError, UnicodeError) as error:
            self._fail("video", f"decord failed ({str(error).strip().splitlines()[0]}).", times[0])
        return resize_frames(frames, size)

    def _unsupported_video(self, track: VideoTrack) -> str | None:
        """Return why decord finds wrong frames in this file, if a reason is known."""
        source = self._pyav.source
        if track.orientation != Orientation():
            return "decord does not turn frames upright."
        if source.num_streams("video") > 1:
            return "decord cannot be told which of several video streams to read."
        if track.clock_fault is not None:
            return f"{track.clock_fault}."
        if "mpegts" in source.container.format.name:
            return "decord seeks to wrong frames in MPEG transport streams."
        if source.stream(track.index).codec_context.reorder_depth and str(self.info.video_codec).startswith("mpeg"):
            return "decord seeks to wrong frames in MPEG video with B-frames."
        if track.lost_seconds:
            return "decord shows wrong frames where a file begins between two keyframes."
        if not stand_alone(source, track.index):
            return "decord seeks to wrong frames where frames refer across keyframes."
        return None

    def _decode(self, times: list[float]) -> Tensor:
        if self._video is None:
            video = decord.VideoReader(self._path, ctx=decord.cpu(0), num_threads=1)
            spans = video.get_frame_timestamp(np.arange(len(video)))  # (N, 2) start and stop of each frame
            if spans[0, 0] < -ROUNDING_SECONDS:
                raise RuntimeError("its frames begin before the edit list lets them")
            # decord's clock starts with the first frame.
            self._video = video, spans + (self.info.video_start_seconds - spans[0, 0])
        video, spans = self._video
        if max(times) > spans[-1, 1] + _END_SECONDS:
            raise IndexError(f"its frames end at {spans[-1, 1]:.3f} s")
        if self._is_far_from_a_keyframe(times):
            raise RuntimeError("it cannot be stopped on the long way from a keyframe")
        return self._in_pieces(times, self._decode_piece)

    def _decode_piece(self, times: list[float]) -> Tensor:
        video, spans = self._video
        found = np.searchsorted(spans[:, 0], np.asarray(times) + ROUNDING_SECONDS, side="right") - 1
        return torch.from_numpy(video.get_batch(np.maximum(found, 0)).asnumpy()).permute(0, 3, 1, 2)

    def _read_samples(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        track = self._pyav.audio
        assert track is not None
        if track.num_channels != 1:
            self._fail("audio", "decord garbles audio of more than one channel.", None)
        if self._pyav.source.num_streams("audio") > 1:
            self._fail("audio", "decord cannot be told which of several audio streams to read.", None)
        if not track.clock_is_exact:
            self._fail("audio", "decord counts the encoder's priming as audio in Matroska.", None)
        if self._audio is None:
            try:
                self._audio = decord.AudioReader(self._path, ctx=decord.cpu(0), mono=False)[:].asnumpy()
            except (DECORDError, RuntimeError, IndexError, UnicodeError) as error:
                self._fail("audio", f"decord failed ({str(error).strip().splitlines()[0]}).", None)
        self._pyav.source.deadline.check()
        if self._audio.shape[1] < needed_stop:
            self._fail("audio", f"decord found {self._audio.shape[1]} samples, not {needed_stop}.", None)
        samples: np.ndarray = self._audio[:, first:stop]
        return samples

    def _fail(self, stream: str, found: str, second: float | None) -> NoReturn:
        raise MediaError(self.info.path, stream, "unreadable", found, 'Open it with backend="pyav".', second)
