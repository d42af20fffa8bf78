"""Read prepared clips: packets go straight to a decoder, without a demuxer."""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from avssl.core.errors import InputError
from avssl.media.errors import MediaError, Reason
from avssl.media.info import MAX_FPS, MAX_SAMPLE_RATE_HZ, MediaInfo
from avssl.media.limits import Deadline, MediaLimits
from avssl.media.prepared.clip import (
    AUDIO,
    AUDIO_CODECS,
    BLOCK,
    FORMAT_VERSION,
    PREROLL_PACKETS,
    VIDEO_CODECS,
    padded,
)
from avssl.media.reader import MediaReader, resized

ReadBytes = Callable[[int, int], bytes]
"""(offset, size) → that part of the shard; shorter at its end."""

_INT16_SCALE, _FLOAT_SCALE = np.float32(2**-15), np.float32(1)
_MAX_HEADER_BYTES, _MAX_READ_BYTES = 64 << 20, 1 << 30  # a day of packets; more than any window needs
_INSIDE = 1e-4  # fraction of a frame added to every time, so that a frame's own time, rounded, finds that frame


class Decoders:
    """Open decoders, kept for the next clip with the same stream header: creating one costs as much as a frame.

    Args:
        limit: Largest number to keep.
    """

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._open: OrderedDict[tuple[str, bytes, int], Any] = OrderedDict()

    def get(self, codec: str, header: bytes, *, max_pixels: int = 0, sample_rate_hz: int | None = None) -> Any:
        """Return a decoder without any state from earlier packets."""
        key = codec, header, max_pixels
        context = self._open.pop(key, None)
        if context is None:
            context = av.CodecContext.create(codec, "r")
            context.extradata = header
            if sample_rate_hz is None:
                context.options = {"max_pixels": str(max_pixels)}
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


class PreparedReader(MediaReader):
    """Reads one clip of a shard; see :class:`avssl.media.MediaReader`.

    Args:
        read: Reads bytes of the shard.
        name: Name of the clip in errors: its shard and id.
        offset: Position of the clip's JSON line in the shard.
        header_bytes: Bytes from there to the mp4.
        decoders: Shared by the clips of a process.
        limits: Limits on the clip; default: those of :class:`~avssl.media.MediaLimits`.

    Raises:
        MediaError: If the shard is cut off, the header is damaged, or the clip is over a limit.
    """

    def __init__(
        self,
        read: ReadBytes,
        name: str,
        offset: int,
        header_bytes: int,
        decoders: Decoders,
        limits: MediaLimits | None = None,
    ) -> None:
        self._read, self._name, self._decoders = read, name, decoders
        self._limits = limits or MediaLimits()
        self._deadline = Deadline(self._limits)
        self._mp4 = offset + header_bytes
        if offset < 0 or not 0 < header_bytes <= _MAX_HEADER_BYTES:
            raise self._error("container", "unreadable", f"the manifest gives it a header of {header_bytes} bytes.")
        head = read(offset, header_bytes)
        if len(head) < header_bytes:
            raise self._error("container", "truncated", "the shard ends before this clip.")
        try:
            self._video, self._audio, self._video_packets, self._audio_packets = _parse(head)
            self._limits.check_size(name, self._video["width"], self._video["height"])
        except MediaError as error:
            raise self._error("video", "unreadable", error.found) from error
        except (ValueError, KeyError, TypeError, OverflowError, IndexError) as error:
            raise self._error("container", "unreadable", f"its header is damaged ({error}).") from error
        self._fps = self._video["frames_per_second"]
        self._info = MediaInfo(
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

    @property
    def info(self) -> MediaInfo:
        """Spans, sizes and rates."""
        return self._info

    def read_planes(self, at_seconds: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Return the frames shown at the given times, as they are stored.

        Returns:
            (T, 1, H, W) luma and (T, 2, H / 2, W / 2) Cb and Cr, uint8, full-range BT.601.

        Raises:
            MediaError: If a time lies outside the clip, or it cannot be decoded.
        """
        times = self._clamp_times(at_seconds)
        with self._reading("video", min(times, default=0.0)):
            return self._read_planes(self._numbers(times))

    def _read_planes(self, numbers: list[int]) -> tuple[Tensor, Tensor]:
        frames = self._decode(sorted(set(numbers)))
        height, width = self._video["height"], self._video["width"]
        luma = torch.empty(len(numbers), 1, height, width, dtype=torch.uint8)
        chroma = torch.empty(len(numbers), 2, height // 2, width // 2, dtype=torch.uint8)
        y, c = luma.numpy(), chroma.numpy()  # a view costs a third of torch's, and each frame needs three
        for i, number in enumerate(numbers):
            if frames[number].format.name not in ("yuv420p", "yuvj420p"):
                raise self._error("video", "unreadable", "its frames are not 4:2:0.", number / self._fps)
            for plane, out in zip(frames[number].planes, (y[i, 0], c[i, 0], c[i, 1]), strict=True):
                lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
                out[:] = lines[: len(out), : out.shape[1]]
        return luma, chroma

    def _read_frames(self, times: list[float], short_side: int | None) -> Tensor:
        numbers = self._numbers(times)
        frames = self._decode(sorted(set(numbers)))
        height, width = resized(self._video["width"], self._video["height"], short_side)
        # Given here, because not every codec's stream declares it.
        colors = {"src_colorspace": Colorspace.ITU601, "src_color_range": ColorRange.JPEG}
        images = {
            number: frame.to_ndarray(format="rgb24", height=height, width=width, **colors)
            for number, frame in frames.items()
        }
        return torch.stack([torch.from_numpy(images[number]).movedim(-1, 0) for number in numbers])

    def _start_deadline(self) -> None:
        self._deadline.start()

    def _numbers(self, times: list[float]) -> list[int]:
        last = self._video["frames"] - 1
        return [min(max(int(second * self._fps + _INSIDE), 0), last) for second in times]

    def _decode(self, numbers: list[int]) -> dict[int, Any]:
        """Return frames by number; ``numbers`` ascend. Each range is decoded from its keyframe on, nothing twice."""
        table = self._video_packets
        keyframes = np.flatnonzero(table[:, 4])
        frames: dict[int, Any] = {}
        for first, stop in _ranges(numbers, keyframes[np.searchsorted(keyframes, numbers, "right") - 1].tolist()):
            self._deadline.start()
            context = self._decoders.get(
                self._video["codec"], self._video["header"], max_pixels=self._limits.max_pixels
            )
            wanted = {number for number in numbers if first <= number < stop}
            for frame in self._decoded(context, table[first:stop], "video", first / self._fps):
                if (frame.width, frame.height) != (self._video["width"], self._video["height"]):
                    raise self._error("video", "unreadable", "its frames have another size.", first / self._fps)
                if frame.pts in wanted:
                    frames[frame.pts] = frame
        if missing := set(numbers) - set(frames):
            second = min(missing) / self._fps
            raise self._error("video", "unreadable", "a frame could not be decoded.", second)
        return frames

    def _read_samples(self, first: int, stop: int, needed_stop: int) -> np.ndarray:
        table, rate = self._audio_packets, self._audio["rate"]
        begin = max(0, int(np.searchsorted(table[:, 3], first, "right")) - 1 - PREROLL_PACKETS[self._audio["codec"]])
        end = int(np.searchsorted(table[:, 3], stop, "left"))
        out = np.zeros((1, stop - first), dtype=np.float32)
        known = first  # end of the samples found so far
        for position, samples in self._decoded_samples(table[begin:end], first / rate):
            if position <= known:
                known = max(known, position + samples.shape[1])
            low, high = max(position, first), min(position + samples.shape[1], stop)
            if low < high:
                scale = _INT16_SCALE if samples.dtype == np.int16 else _FLOAT_SCALE
                np.multiply(samples[:, low - position : high - position], scale, out=out[:, low - first : high - first])
        if known < needed_stop:
            raise self._error("audio", "unreadable", "samples are missing there.", known / rate)
        return out

    def _decoded_samples(self, table: np.ndarray, second: float) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (position, (1, n) int16 or float32) of consecutive audio packets."""
        if self._audio["codec"] == "pcm":
            data = b"".join(self._packets(table, "audio", second))
            yield int(table[0, 3]), np.frombuffer(data, "<i2")[None]
            return
        context = self._decoders.get(self._audio["codec"], self._audio["header"], sample_rate_hz=self._audio["rate"])
        for frame in self._decoded(context, table, "audio", second):
            yield frame.pts, frame.to_ndarray()

    def _packets(self, table: np.ndarray, stream: str, second: float) -> Iterator[bytes]:
        """Yield the bytes of each packet, read at once."""
        if not len(table):
            raise self._error(stream, "unreadable", "there are no packets there.", second)
        begin = int(table[:, 1].min())
        size = int((table[:, 1] + table[:, 2]).max()) - begin
        if size > _MAX_READ_BYTES:
            raise self._error(stream, "too_large", f"a window of it takes {size} bytes.", second)
        data = self._read(self._mp4 + begin, size)
        if len(data) < size:
            raise self._error(stream, "truncated", "the shard ends within this clip.", second)
        for position, length in (table[:, 1:3] - (begin, 0)).tolist():
            yield data[position : position + length]

    def _decoded(self, context: Any, table: np.ndarray, stream: str, second: float) -> Iterator[Any]:
        """Yield the frames of consecutive packets, with the packets' times."""
        try:
            for data, time in zip(self._packets(table, stream, second), table[:, 3].tolist(), strict=True):
                self._deadline.check()
                packet = av.Packet(len(data))  # a padded copy: decoders read a few bytes past the end
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
    """Return the video and audio properties in the JSON line, and the packets of each in the order of their times."""
    line_bytes = head.index(b"\n") + 1
    about = json.loads(head[:line_bytes])
    if about["format"] != FORMAT_VERSION:
        raise InputError(f"format {about['format']}, and this version reads {FORMAT_VERSION}")
    array = padded(line_bytes) + BLOCK  # NPY 1.0: magic (6), version (2), length of its header (2), header
    begin = array + 10 + int.from_bytes(head[array + 8 : array + 10], "little")
    table = np.frombuffer(head, dtype="<i4", count=5 * int(about["packets"]), offset=begin).reshape(-1, 5)
    table = table.astype(np.int64)  # so that sums of two do not overflow
    if (
        len(table) == 0 or table[:, :3].min() < 0 or (np.diff(table[:, 0]) < 0).any()
    ):  # times may be negative: AAC begins before 0
        raise InputError("an impossible table of packets")
    num_frames = int(np.searchsorted(table[:, 0], AUDIO))
    video, audio = _checked(about["video"], about["audio"])
    video_packets, audio_packets = table[:num_frames], table[num_frames:]
    if num_frames != video["frames"] or not len(audio_packets) or not video_packets[:1, 4].all():
        raise InputError(f"{num_frames} packets for {video['frames']} frames")
    audio_times = audio_packets[:, 3]
    if audio["codec"] == "pcm" and (audio_packets[:, 2] != 2 * np.diff(audio_times, append=audio["samples"])).any():
        raise InputError("audio packets whose sizes differ from their times")
    if (video_packets[:, 3] != np.arange(num_frames)).any() or audio_times[0] > 0 or (np.diff(audio_times) <= 0).any():
        raise InputError("packets out of order")
    return video, audio, video_packets, audio_packets


def _checked(video: dict[str, Any], audio: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the same with numbers of the right type, within the limits of :func:`avssl.media.open_media`."""
    numbers = {name: int(video[name]) for name in ("width", "height", "frames")}
    video = video | numbers | {"frames_per_second": float(video["frames_per_second"])}
    audio = audio | {name: int(audio[name]) for name in ("rate", "samples")}
    for part in (video, audio):
        part["header"] = base64.b64decode(part["header"], validate=True)
    if min(numbers.values()) < 1:
        raise InputError(f"frames of {video['width']} x {video['height']}")
    if not 0 < video["frames_per_second"] <= MAX_FPS or not 0 < audio["rate"] <= MAX_SAMPLE_RATE_HZ:
        raise InputError(f"{video['frames_per_second']} frames and {audio['rate']} samples per second")
    if video["codec"] not in VIDEO_CODECS or audio["codec"] not in AUDIO_CODECS or audio["samples"] < 1:
        raise InputError(f"codecs {video['codec']} and {audio['codec']}")
    return video, audio


def _ranges(numbers: list[int], keyframes: list[int]) -> list[tuple[int, int]]:
    """Return the [first, stop) packets to decode for ascending frames, given the keyframe before each."""
    found: list[tuple[int, int]] = []
    for number, keyframe in zip(numbers, keyframes, strict=True):
        if found and keyframe <= found[-1][1]:
            found[-1] = found[-1][0], number + 1
        else:
            found.append((keyframe, number + 1))
    return found
