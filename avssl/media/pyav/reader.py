"""The PyAV reader, the default: its wheel carries FFmpeg, so nothing else needs to be installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from torch import Tensor

from avssl.media.planes import Planes
from avssl.media.pyav.picture import PictureTrack, Upright, too_large
from avssl.media.pyav.sound import SoundTrack, read_window
from avssl.media.pyav.source import Source
from avssl.media.reader import (
    MAX_CHANNELS,
    MAX_FPS,
    MAX_SAMPLE_RATE_HZ,
    MediaError,
    MediaInfo,
    ascending_times,
    audio_window,
    clamp_times,
)

T = TypeVar("T")


class PyAVReader:
    """Reads one file through FFmpeg's libraries; see :class:`avssl.media.MediaReader`.

    Opening reads the header. A read seeks to the keyframe before the first asked time and stops
    behind the last; only asked frames are converted, in the same step that resizes them.

    Args:
        path: A local regular file.
        max_pixels: Largest width * height that is decoded.
        max_duration_seconds: Longest file that is opened.

    Raises:
        MediaError: If the file is no media, has no picture and no sound track, or is over a limit.
    """

    def __init__(self, path: Path, *, max_pixels: int, max_duration_seconds: float) -> None:
        self._open_again = partial(type(self), path, max_pixels=max_pixels, max_duration_seconds=max_duration_seconds)
        self._source = Source(path, max_pixels)
        try:
            self._picture, self._sound = self._tracks(max_pixels)
            self._header = self._read_header()
            if self._header.duration_seconds > max_duration_seconds:
                found = f"{self._header.duration_seconds:.0f} s are over the limit of {max_duration_seconds:.0f} s."
                advice = "Cut the file, or raise max_duration_seconds."
                raise MediaError(str(path), "container", "too_large", found, advice)
        except BaseException:
            self._source.close()
            raise
        self._info: MediaInfo | None = None

    def _tracks(self, max_pixels: int) -> tuple[PictureTrack | None, SoundTrack | None]:
        source, path = self._source, str(self._source.path)
        video, audio = source.best("video"), source.best("audio")
        if video is None and audio is None:
            found = "there is neither a picture nor a sound track."
            raise MediaError(path, "container", "no_video", found, "Leave the file out.")
        spans = iter(source.spans([s for s in (video, audio) if s is not None]))
        video, audio = source.best("video"), source.best("audio")  # measuring spans may open the file anew
        picture = sound = None
        if video is not None:
            if video.width * video.height > max_pixels:
                raise too_large(path, video.width, video.height, max_pixels)
            if not video.width or not video.height:
                raise source.error("video", "the header gives the pictures no size.")
            self._fps = float(video.average_rate or video.guessed_rate or 0)
            if self._fps > MAX_FPS:
                raise _too_much(path, "video", f"{self._fps:g} pictures a second", f"{MAX_FPS:g}")
            picture = PictureTrack(source, video.index, self._fps, next(spans), max_pixels)
        if audio is not None:
            if not audio.codec_context.sample_rate or not audio.codec_context.channels:
                raise source.error("audio", "the header gives the sound no rate or channels.")
            if audio.codec_context.sample_rate > MAX_SAMPLE_RATE_HZ:
                raise _too_much(path, "audio", f"{audio.codec_context.sample_rate} Hz", f"{MAX_SAMPLE_RATE_HZ}")
            if audio.codec_context.channels > MAX_CHANNELS:
                raise _too_much(path, "audio", f"{audio.codec_context.channels} channels", f"{MAX_CHANNELS}")
            sound = SoundTrack(source, audio.index, next(spans))
        return picture, sound

    def _read_header(self) -> MediaInfo:
        """Everything but the upright size, which needs a decoded frame."""
        picture, sound = self._picture, self._sound
        tracks = [track for track in (picture, sound) if track is not None]
        start, stop = min(t.start_seconds for t in tracks), max(t.stop_seconds for t in tracks)
        stream = self._source.stream
        return MediaInfo(
            path=str(self._source.path),
            duration_seconds=stop - start,
            video_start_seconds=picture.start_seconds if picture else None,
            video_stop_seconds=picture.stop_seconds if picture else None,
            video_fps=self._fps if picture else None,
            width=picture.square_size[0] if picture else None,
            height=picture.square_size[1] if picture else None,
            video_codec=stream(picture.index).codec_context.codec.canonical_name if picture else None,
            audio_start_seconds=sound.start_seconds if sound else None,
            audio_stop_seconds=sound.stop_seconds if sound else None,
            audio_sample_rate_hz=sound.rate if sound else None,
            audio_num_channels=sound.num_channels if sound else None,
            audio_codec=stream(sound.index).codec_context.codec.canonical_name if sound else None,
        )

    @property
    def info(self) -> MediaInfo:
        """Spans, sizes and rates; the first use decodes a frame unless one was read before."""
        if self._info is None:
            self._info = self._header
            if self._picture is not None:
                try:
                    height, width = self._picture.size()
                except MediaError:
                    self._info = None
                    raise
                self._info = dataclasses.replace(self._header, width=width, height=height)
        return self._info

    @property
    def video_index(self) -> int | None:
        """The picture track's index among all streams, for other backends."""
        return self._picture.index if self._picture else None

    @property
    def audio_index(self) -> int | None:
        """The sound track's index among all streams, for other backends."""
        return self._sound.index if self._sound else None

    @property
    def container_format(self) -> str:
        """FFmpeg's names of the container, for other backends."""
        return str(self._source.container.format.name)

    def num_tracks(self, kind: str) -> int:
        """How many tracks of ``"video"`` or ``"audio"`` there are, cover art included, for other backends."""
        return sum(stream.type == kind for stream in self._source.container.streams)

    @property
    def has_reordered_frames(self) -> bool:
        """Whether frames are stored in another order than shown in, for other backends."""
        return bool(self._source.stream(self._picture.index).codec_context.reorder_depth) if self._picture else False

    @property
    def video_clock(self) -> str | None:
        """Why the container's timestamps of pictures mislead other backends; None where they do not."""
        assert self._picture is not None
        if not self._source.seeks_exactly:
            return "timestamps in an MPEG program stream are wrong after a seek"
        if self._source.counts_frames(self._picture.index):
            return "AVI with B-frames does not say when a frame is shown"
        return None

    @property
    def audio_layout(self) -> str:
        """FFmpeg's name of the channel layout, for other backends."""
        return self._sound.layout if self._sound else ""

    @property
    def audio_clock_is_exact(self) -> bool:
        """Whether the container's clock tells samples apart, for other backends."""
        return self._sound is not None and self._sound.clock_is_exact

    @property
    def upright(self) -> Upright:
        """How stored pictures become upright, for other backends."""
        assert self._picture is not None
        return self._picture.upright

    def size(self, short_side: int | None) -> tuple[int, int]:
        """(height, width) of the frames that ``read_frames`` gives, for other backends."""
        assert self._picture is not None
        return self._picture.size(short_side)

    def read_frames(self, at_seconds: Sequence[float], short_side: int | None = None) -> Tensor:
        """See :meth:`avssl.media.MediaReader.read_frames`."""
        times = clamp_times(self._header, at_seconds)
        assert self._picture is not None
        with self._source.reporting("video", min(times, default=0.0)):
            return self._picture.read(times, short_side)

    def stream_frames(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Tensor, None, None]:
        """See :meth:`avssl.media.MediaReader.stream_frames`."""
        return self._stream(at_seconds, short_side, PictureTrack.rgb)

    def stream_planes(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Planes, None, None]:
        """See :meth:`avssl.media.MediaReader.stream_planes`."""
        return self._stream(at_seconds, short_side, PictureTrack.planes)

    def _stream(
        self,
        at_seconds: Sequence[float],
        short_side: int | None,
        convert: Callable[[PictureTrack, Any, float, int | None], T],
    ) -> Generator[T, None, None]:
        times = ascending_times(self._header, at_seconds)
        with self._open_again() as twin:
            track = twin._picture
            assert track is not None
            with twin._source.reporting("video", min(times, default=0.0)):
                yield from track.stream(times, short_side, partial(convert, track))

    def read_audio(
        self, start_seconds: float, stop_seconds: float, sample_rate_hz: int | None = None, num_channels: int = 1
    ) -> Tensor:
        """See :meth:`avssl.media.MediaReader.read_audio`."""
        audio_window(self._header, start_seconds, stop_seconds, sample_rate_hz)
        assert self._sound is not None
        with self._source.reporting("audio", start_seconds):
            return read_window(
                self._sound.read,
                self._header,
                self._sound.layout,
                start_seconds,
                stop_seconds,
                sample_rate_hz,
                num_channels,
            )

    def close(self) -> None:
        """Releases the file."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _too_much(path: str, stream: str, found: str, limit: str) -> MediaError:
    """The error for a rate that no device gives."""
    found = f"the header says {found}, over the limit of {limit}."
    return MediaError(path, stream, "too_large", found, "The header is wrong; convert the file.")
