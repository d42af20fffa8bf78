"""The PyAV reader, the default: its wheel contains FFmpeg, so nothing else needs to be installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from avssl.media.errors import MediaError
from avssl.media.info import MAX_CHANNELS, MAX_FPS, MAX_SAMPLE_RATE_HZ, MediaInfo
from avssl.media.limits import MediaLimits
from avssl.media.planes import Planes
from avssl.media.pyav.audio_track import AudioTrack
from avssl.media.pyav.recordings import ByteRange
from avssl.media.pyav.source import Source
from avssl.media.pyav.video_track import VideoTrack
from avssl.media.reader import MediaReader

T = TypeVar("T")


class PyAVReader(MediaReader):
    """Reads one file through FFmpeg's libraries; see :class:`avssl.media.MediaReader`.

    Opening reads the header. A read seeks to the keyframe before the first requested time and stops
    after the last; only requested frames are converted, in the same step that resizes them.

    Args:
        path: A local regular file.
        limits: Limits on the file.
        part: Bytes of the file to read; default: all.

    Raises:
        MediaError: If the file is not a media file, has neither video nor audio, or is over a limit.
    """

    def __init__(self, path: Path, limits: MediaLimits, part: ByteRange | None = None) -> None:
        self._open_again = partial(type(self), path, limits, part)
        self.source = Source(path, limits, part)
        self.source.deadline.start()
        self.video: VideoTrack | None
        """The video stream, also for backends that build on PyAV."""
        self.audio: AudioTrack | None
        """The audio stream; None if the file has none."""
        try:
            self.video, self.audio = self._open_tracks(limits)
            self._header_info = self._read_header()
            duration, longest = self._header_info.duration_seconds, limits.max_duration_seconds
            if duration > longest:
                found = f"{duration:.0f} s are over the limit of {longest:.0f} s."
                advice = "Cut the file, or raise max_duration_seconds."
                raise MediaError(str(path), "container", "too_large", found, advice)
        except BaseException:
            self.source.close()
            raise
        self._info: MediaInfo | None = None

    def _open_tracks(self, limits: MediaLimits) -> tuple[VideoTrack | None, AudioTrack | None]:
        source, path = self.source, str(self.source.path)
        video, audio = source.best("video"), source.best("audio")
        if video is None and audio is None:
            found = "there is neither a video nor an audio stream."
            raise MediaError(path, "container", "no_video", found, "Leave the file out.")
        spans = iter(source.spans([s for s in (video, audio) if s is not None]))
        video, audio = source.best("video"), source.best("audio")  # measuring spans may open the file anew
        tracks: tuple[VideoTrack | None, AudioTrack | None] = None, None
        if video is not None:
            if not video.width or not video.height:
                raise source.error("video", "the header gives the frames no size.")
            self._fps = float(video.average_rate or video.guessed_rate or 0)
            if self._fps > MAX_FPS:
                raise _over_limit(path, "video", f"{self._fps:g} frames per second", f"{MAX_FPS:g}")
            tracks = VideoTrack(source, video.index, self._fps, next(spans), limits), None
        if audio is not None:
            if not audio.codec_context.sample_rate or not audio.codec_context.channels:
                raise source.error("audio", "the header gives the audio no rate or channels.")
            if audio.codec_context.sample_rate > MAX_SAMPLE_RATE_HZ:
                raise _over_limit(path, "audio", f"{audio.codec_context.sample_rate} Hz", f"{MAX_SAMPLE_RATE_HZ}")
            if audio.codec_context.channels > MAX_CHANNELS:
                raise _over_limit(path, "audio", f"{audio.codec_context.channels} channels", f"{MAX_CHANNELS}")
            tracks = tracks[0], AudioTrack(source, audio.index, next(spans))
        return tracks

    def _read_header(self) -> MediaInfo:
        """Return everything but the upright size, which needs a decoded frame."""
        video, audio = self.video, self.audio
        tracks = [track for track in (video, audio) if track is not None]
        start, stop = min(t.start_seconds for t in tracks), max(t.stop_seconds for t in tracks)
        stream = self.source.stream
        return MediaInfo(
            path=str(self.source.path),
            duration_seconds=stop - start,
            video_start_seconds=video.start_seconds if video else None,
            video_stop_seconds=video.stop_seconds if video else None,
            video_fps=self._fps if video else None,
            width=video.square_size[0] if video else None,
            height=video.square_size[1] if video else None,
            video_codec=stream(video.index).codec_context.codec.canonical_name if video else None,
            audio_start_seconds=audio.start_seconds if audio else None,
            audio_stop_seconds=audio.stop_seconds if audio else None,
            audio_sample_rate_hz=audio.rate if audio else None,
            audio_num_channels=audio.num_channels if audio else None,
            audio_codec=stream(audio.index).codec_context.codec.canonical_name if audio else None,
            unread=_undecodable(video.lost_seconds) if video else "",
        )

    @property
    def info(self) -> MediaInfo:
        """Spans, sizes and rates; the first use decodes a frame unless one was read before."""
        if self._info is None:
            if self.video is not None:
                with self._reading("video", self.video.start_seconds):
                    height, width = self.video.size()
                self._header_info = dataclasses.replace(self._read_header(), width=width, height=height)
            self._info = self._header_info
        return self._info

    def _read_frames(self, times: list[float], short_side: int | None) -> Tensor:
        assert self.video is not None
        return self.video.read(times, short_side)

    def _read_samples(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        assert self.audio is not None
        return self.audio.read(first, stop, needed_stop)

    def _stream_frames(self, times: list[float], short_side: int | None) -> Generator[Tensor, None, None]:
        return self._stream(times, short_side, VideoTrack.rgb)

    def _stream_planes(self, times: list[float], short_side: int | None) -> Generator[Planes, None, None]:
        return self._stream(times, short_side, VideoTrack.planes)

    def _stream(
        self, times: list[float], short_side: int | None, convert: Callable[[VideoTrack, Any, float, int | None], T]
    ) -> Generator[T, None, None]:
        with self._open_again() as twin:
            track = twin.video
            assert track is not None
            with twin._reading("video", min(times, default=0.0)):
                for frame in track.stream(times, short_side, partial(convert, track)):
                    yield frame
                    twin._start_deadline()

    @property
    def _header(self) -> MediaInfo:
        return self._header_info

    @property
    def _channel_layout(self) -> str:
        return self.audio.layout if self.audio else ""

    def _start_deadline(self) -> None:
        self.source.deadline.start()

    def _reporting(self, stream: str, second: float) -> AbstractContextManager[None]:
        return self.source.reporting(stream, second)

    def close(self) -> None:
        """Release the file."""
        self.source.close()


def _undecodable(seconds: float) -> str:
    return f"The first {seconds:.3f} s of video cannot be decoded: no keyframe precedes them." if seconds else ""


def _over_limit(path: str, stream: str, found: str, limit: str) -> MediaError:
    found = f"the header says {found}, over the limit of {limit}."
    return MediaError(path, stream, "too_large", found, "The header is wrong; convert the file.")
