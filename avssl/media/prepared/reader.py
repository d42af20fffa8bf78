"""Reads prepared clips: packets straight to a decoder, no demuxer in between."""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from avssl.core.errors import InputError
from avssl.media.planes import Planes, to_planes
from avssl.media.prepared.clip import (
    AUDIO_CODECS,
    BLOCK,
    FORMAT_VERSION,
    PREROLL_PACKETS,
    SOUND,
    VIDEO_CODECS,
    padded,
)
from avssl.media.pyav.sound import read_window
from avssl.media.reader import (
    MAX_FPS,
    MAX_PIXELS,
    MAX_SAMPLE_RATE_HZ,
    MediaError,
    MediaInfo,
    Reason,
    ascending_times,
    audio_window,
    clamp_times,
)

ReadBytes = Callable[[int, int], bytes]
"""(offset, size) -> that part of the shard; shorter at its end."""

_INT16_SCALE, _FLOAT_SCALE = np.float32(2**-15), np.float32(1)
_MOST_HEADER_BYTES, _MOST_READ_BYTES = 64 << 20, 1 << 30  # a day of packets; what no window needs
_INSIDE = 1e-4  # of a frame: a time that is a frame's own, but for rounding, finds that frame


class Decoders:
    """Open decoders, kept for the next clip with the same stream header: making one costs as much as a frame.

    Args:
        limit: Most to keep.
    """

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._open: OrderedDict[tuple[str, bytes], Any] = OrderedDict()

    def get(self, codec: str, header: bytes, sample_rate_hz: int | None = None) -> Any:
        """A decoder as new."""
        key = codec, header
        context = self._open.pop(key, None)
        if context is None:
            context = av.CodecContext.create(codec, "r")
            context.extradata = header
            context.options = {"max_pixels": str(MAX_PIXELS)}
            if sample_rate_hz is None:
                context.thread_count = 1
            else:
                context.sample_rate, context.layout = sample_rate_hz, "mono"
        elif context.is_open:
            context.flush_buffers()
        self._open[key] = context
        while len(self._open) > self._limit:
            self._open.popitem(last=False)
        return context

    def __reduce__(self) -> tuple[type[Decoders], tuple[int]]:
        return Decoders, (self._limit,)  # worker processes open their own


class PreparedReader:
    """One clip of a shard; see :class:`avssl.media.MediaReader`.

    Args:
        read: Reads bytes of the shard.
        name: What errors call the clip: its shard and id.
        offset: Place of the clip's JSON line in the shard.
        header_bytes: From there to the first byte of the mp4.
        decoders: Shared by the clips of a process.

    Raises:
        MediaError: If the shard is cut or the header is not one.
    """

    def __init__(self, read: ReadBytes, name: str, offset: int, header_bytes: int, decoders: Decoders) -> None:
        self._read, self._name, self._decoders = read, name, decoders
        self._mp4 = offset + header_bytes
        if offset < 0 or not 0 < header_bytes <= _MOST_HEADER_BYTES:
            raise self._error("container", "unreadable", f"the manifest gives it a header of {header_bytes} bytes.")
        head = read(offset, header_bytes)
        if len(head) < header_bytes:
            raise self._error("container", "truncated", "the shard ends before this clip.")
        try:
            self._video, self._audio, self._video_packets, self._audio_packets = _parse(head)
        except (ValueError, KeyError, TypeError, OverflowError, IndexError) as error:
            raise self._error("container", "unreadable", f"its header is damaged ({error}).") from error
        self._fps = self._video["frames_per_second"]
        self.info = MediaInfo(
            path=name,
            duration_seconds=max(self._video["frames"] / self._fps, self._audio["samples"] / self._audio["rate"]),
            video_start_seconds=0.0,
            video_stop_seconds=self._video["frames"] / self._fps,
            video_fps=self._fps,
            width=self._video["width"],
            height=self._video["height"],
            video_codec=self._video["codec"],
            audio_start_seconds=0.0,
            audio_stop_seconds=self._audio["samples"] / self._audio["rate"],
            audio_sample_rate_hz=self._audio["rate"],
            audio_num_channels=1,
            audio_codec=self._audio["codec"],
        )

    def read_planes(self, at_seconds: Sequence[float]) -> tuple[Tensor, Tensor]:
        """The frames shown at the given times, as they are stored.

        Returns:
            (T, 1, H, W) luma and (T, 2, H / 2, W / 2) Cb and Cr, uint8, full-range BT.601.

        Raises:
            MediaError: If a time lies outside the clip, or it cannot be decoded.
        """
        numbers = self._numbers(at_seconds)
        frames = self._decode(sorted(set(numbers)))
        height, width = self._video["height"], self._video["width"]
        luma = torch.empty(len(numbers), 1, height, width, dtype=torch.uint8)
        chroma = torch.empty(len(numbers), 2, height // 2, width // 2, dtype=torch.uint8)
        y, c = luma.numpy(), chroma.numpy()  # a view costs a third of torch's, and there are three a frame
        for i, number in enumerate(numbers):
            if frames[number].format.name not in ("yuv420p", "yuvj420p"):
                raise self._error("video", "unreadable", "its pictures are not 4:2:0.", number / self._fps)
            for plane, out in zip(frames[number].planes, (y[i, 0], c[i, 0], c[i, 1]), strict=True):
                lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
                out[:] = lines[: len(out), : out.shape[1]]
        return luma, chroma

    def read_frames(self, at_seconds: Sequence[float], short_side: int | None = None) -> Tensor:
        """See :meth:`avssl.media.MediaReader.read_frames`."""
        numbers = self._numbers(at_seconds)
        frames = self._decode(sorted(set(numbers)))
        height, width = self._video["height"], self._video["width"]
        scale = 1.0 if short_side is None else short_side / min(height, width)
        size = {"height": max(1, round(height * scale)), "width": max(1, round(width * scale))}
        # Said here, because not every codec's stream says it.
        colors = {"src_colorspace": Colorspace.ITU601, "src_color_range": ColorRange.JPEG}
        pictures = {n: frame.to_ndarray(format="rgb24", **size, **colors) for n, frame in frames.items()}
        return torch.stack([torch.from_numpy(pictures[number]).movedim(-1, 0) for number in numbers])

    def stream_frames(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Tensor, None, None]:
        """See :meth:`avssl.media.MediaReader.stream_frames`."""
        for second in ascending_times(self.info, at_seconds):
            yield self.read_frames([second], short_side)[0]

    def stream_planes(
        self, at_seconds: Sequence[float], short_side: int | None = None
    ) -> Generator[Planes, None, None]:
        """See :meth:`avssl.media.MediaReader.stream_planes`."""
        yield from map(to_planes, self.stream_frames(at_seconds, short_side))

    def read_audio(
        self, start_seconds: float, stop_seconds: float, sample_rate_hz: int | None = None, num_channels: int = 1
    ) -> Tensor:
        """See :meth:`avssl.media.MediaReader.read_audio`."""
        audio_window(self.info, start_seconds, stop_seconds, sample_rate_hz)
        return read_window(self._samples, self.info, "mono", start_seconds, stop_seconds, sample_rate_hz, num_channels)

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _numbers(self, at_seconds: Sequence[float]) -> list[int]:
        last = self._video["frames"] - 1
        times = clamp_times(self.info, at_seconds)
        return [min(max(int(second * self._fps + _INSIDE), 0), last) for second in times]

    def _decode(self, numbers: list[int]) -> dict[int, Any]:
        """Frames by number, ascending numbers asked: each stretch from its keyframe on, nothing decoded twice."""
        table = self._video_packets
        keyframes = np.flatnonzero(table[:, 4])
        frames: dict[int, Any] = {}
        for first, stop in _stretches(numbers, keyframes[np.searchsorted(keyframes, numbers, "right") - 1].tolist()):
            context = self._decoders.get(self._video["codec"], self._video["header"])
            wanted = {number for number in numbers if first <= number < stop}
            for frame in self._decoded(context, table[first:stop], "video", first / self._fps):
                if (frame.width, frame.height) != (self._video["width"], self._video["height"]):
                    raise self._error("video", "unreadable", "its pictures have another size.", first / self._fps)
                if frame.pts in wanted:
                    frames[frame.pts] = frame
        if missing := set(numbers) - set(frames):
            second = min(missing) / self._fps
            raise self._error("video", "unreadable", "a frame could not be decoded.", second)
        return frames

    def _samples(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        """See :data:`avssl.media.pyav.sound.ReadWindow`."""
        table, rate = self._audio_packets, self._audio["rate"]
        begin = max(0, int(np.searchsorted(table[:, 3], first, "right")) - 1 - PREROLL_PACKETS[self._audio["codec"]])
        end = int(np.searchsorted(table[:, 3], stop, "left"))
        out = np.zeros((1, stop - first), dtype=np.float32)
        for place, samples in self._placed(table[begin:end], first / rate):
            low, high = max(place, first), min(place + samples.shape[1], stop)
            if low < high:
                scale = _INT16_SCALE if samples.dtype == np.int16 else _FLOAT_SCALE
                np.multiply(samples[:, low - place : high - place], scale, out=out[:, low - first : high - first])
        return out

    def _placed(self, table: np.ndarray, second: float) -> Iterator[tuple[int, np.ndarray]]:
        """(place on the grid, (1, n) int16 or float32) of consecutive packets of sound."""
        if self._audio["codec"] == "pcm":
            data = b"".join(self._packets(table, "audio", second))
            yield int(table[0, 3]), np.frombuffer(data, "<i2")[None]
            return
        context = self._decoders.get(self._audio["codec"], self._audio["header"], self._audio["rate"])
        for frame in self._decoded(context, table, "audio", second):
            yield frame.pts, frame.to_ndarray()

    def _packets(self, table: np.ndarray, stream: str, second: float) -> Iterator[bytes]:
        """The bytes of each packet, read in one go."""
        if not len(table):
            raise self._error(stream, "unreadable", "there are no packets there.", second)
        begin = int(table[:, 1].min())
        size = int((table[:, 1] + table[:, 2]).max()) - begin
        if size > _MOST_READ_BYTES:
            raise self._error(stream, "too_large", f"a window of it takes {size} bytes.", second)
        data = self._read(self._mp4 + begin, size)
        if len(data) < size:
            raise self._error(stream, "truncated", "the shard ends within this clip.", second)
        for place, length in (table[:, 1:3] - (begin, 0)).tolist():
            yield data[place : place + length]

    def _decoded(self, context: Any, table: np.ndarray, stream: str, second: float) -> Iterator[Any]:
        """Frames of consecutive packets, with the packets' times."""
        try:
            for data, time in zip(self._packets(table, stream, second), table[:, 3].tolist(), strict=True):
                packet = av.Packet(len(data))  # of its own, as decoders read a few bytes on and want zeros there
                packet.update(data)
                packet.pts = packet.dts = time
                yield from context.decode(packet)
            yield from context.decode(None)
        except av.FFmpegError as error:
            raise self._error(stream, "unreadable", f"decoding failed ({error.strerror}).", second) from error

    def _error(self, stream: str, reason: Reason, found: str, second: float | None = None) -> MediaError:
        advice = "The shard is damaged: remove it and call avssl prepare again."
        return MediaError(self._name, stream, reason, found, advice, second)


def _parse(head: bytes) -> tuple[dict[str, Any], dict[str, Any], np.ndarray, np.ndarray]:
    """What the JSON line says of picture and sound, and the packets of each in the order of their times."""
    line_bytes = head.index(b"\n") + 1
    about = json.loads(head[:line_bytes])
    if about["format"] != FORMAT_VERSION:
        raise InputError(f"format {about['format']}, and this version reads {FORMAT_VERSION}")
    array = padded(line_bytes) + BLOCK  # NPY 1.0: magic (6), version (2), length of its header (2), header
    begin = array + 10 + int.from_bytes(head[array + 8 : array + 10], "little")
    table = np.frombuffer(head, dtype="<i4", count=5 * int(about["packets"]), offset=begin).reshape(-1, 5)
    table = table.astype(np.int64)  # sums of two
    if len(table) == 0 or table[:, :3].min() < 0 or (np.diff(table[:, 0]) < 0).any():  # times: AAC begins before 0
        raise InputError("a table of packets that cannot be")
    num_pictures = int(np.searchsorted(table[:, 0], SOUND))
    video, audio = _checked(about["video"], about["audio"])
    pictures, sounds = table[:num_pictures], table[num_pictures:]
    if num_pictures != video["frames"] or not len(sounds) or not pictures[:1, 4].all():
        raise InputError(f"{num_pictures} packets for {video['frames']} frames")
    if (pictures[:, 3] != np.arange(num_pictures)).any() or sounds[0, 3] > 0 or (np.diff(sounds[:, 3]) <= 0).any():
        raise InputError("packets out of order")
    return video, audio, pictures, sounds


def _checked(video: dict[str, Any], audio: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same with numbers of the right kind, within the limits of :func:`avssl.media.open_media`."""
    numbers = {name: int(video[name]) for name in ("width", "height", "frames")}
    video = video | numbers | {"frames_per_second": float(video["frames_per_second"])}
    audio = audio | {name: int(audio[name]) for name in ("rate", "samples")}
    for part in (video, audio):
        part["header"] = base64.b64decode(part["header"], validate=True)
    if not 0 < video["width"] * video["height"] <= MAX_PIXELS or min(numbers.values()) < 1:
        raise InputError(f"pictures of {video['width']} x {video['height']}")
    if not 0 < video["frames_per_second"] <= MAX_FPS or not 0 < audio["rate"] <= MAX_SAMPLE_RATE_HZ:
        raise InputError(f"{video['frames_per_second']} pictures and {audio['rate']} samples a second")
    if video["codec"] not in VIDEO_CODECS or audio["codec"] not in AUDIO_CODECS or audio["samples"] < 1:
        raise InputError(f"codecs {video['codec']} and {audio['codec']}")
    return video, audio


def _stretches(numbers: list[int], keyframes: list[int]) -> list[tuple[int, int]]:
    """[first, stop) packets to decode for ascending frames, given the keyframe before each."""
    found: list[tuple[int, int]] = []
    for number, keyframe in zip(numbers, keyframes, strict=True):
        if found and keyframe <= found[-1][1]:
            found[-1] = found[-1][0], number + 1
        else:
            found.append((keyframe, number + 1))
    return found
