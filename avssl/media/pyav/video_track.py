"""The video stream of a PyAV container: the frame shown at each time, upright and resized."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from torch import Tensor

from avssl.media.errors import MediaError
from avssl.media.limits import MediaLimits
from avssl.media.planes import Planes
from avssl.media.pyav.selective_decoder import SelectiveDecoder, TimestampMismatch
from avssl.media.pyav.sequential_decoder import SequentialDecoder
from avssl.media.pyav.source import Source
from avssl.media.reader import ROUNDING_SECONDS, resized

T = TypeVar("T")

_END_SECONDS = 0.1  # beyond the last frame's own duration; a longer hole means that the file was cut
# Unscaled: FFmpeg's default, bit for bit the result of other readers. Resizing: otherwise color has half the detail.
_CONVERT = Interpolation.BILINEAR
_RESIZE = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
_SQUARE = 0.02  # aspect ratios this close to 1 come from rounded sizes; resampling would only blur


@dataclass(frozen=True)
class Orientation:
    """Transposition and then flips that make decoded frames upright."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def is_rotation(self) -> bool:
        """True if no mirroring is involved."""
        return (self.transpose + self.flip_x + self.flip_y) % 2 == 0

    @classmethod
    def of(cls, frame: Any) -> Orientation:
        """Read the display matrix of a frame, to the nearest quarter turn.

        The matrix ``(a, b, u, c, d, v, x, y, w)`` maps a stored pixel (x, y) to the displayed pixel
        (a x + c y, b x + d y), y downward, in 16.16 fixed point.
        """
        if not frame.rotation and SideDataType.DISPLAYMATRIX not in _side_data_types(frame):
            return cls()
        data = next(d for d in _side_data(frame) if d.type == SideDataType.DISPLAYMATRIX)
        a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(data), dtype="<i4")[:5])
        transpose = abs(b) > abs(a)
        return cls(transpose, (c if transpose else a) < 0, (b if transpose else d) < 0)

    def apply(self, frame: Tensor) -> Tensor:
        """Turn ``(..., h, w)`` as stored into ``(..., H, W)`` upright."""
        frame = frame.transpose(-1, -2) if self.transpose else frame
        dims = [dim for dim, flip in ((-1, self.flip_x), (-2, self.flip_y)) if flip]
        return frame.flip(dims) if dims else frame


class VideoTrack:
    """Reads frames of one stream.

    Args:
        source: The container.
        index: Index of the stream.
        fps: Average frames per second.
        span: (start, stop) in seconds.
        limits: Limits on the frames.
    """

    def __init__(self, source: Source, index: int, fps: float, span: tuple[float, float], limits: MediaLimits) -> None:
        self.source = source
        self.index = index
        self.start_seconds, self.stop_seconds = span
        self._limits = limits
        self.lost_seconds = 0.0
        """Video at the beginning that cannot be decoded, once the orientation is known."""
        stream = source.stream(index)
        self.time_base = stream.time_base
        self.frame_ticks = max(1, round(1 / (fps * self.time_base))) if fps else 1
        self.square_size = _square_size(stream)
        limits.check_size(str(source.path), *self.square_size)
        self._orientation: Orientation | None = None
        self._reformatter = VideoReformatter()
        first_tick = self._tick(self.start_seconds)
        self._selective = SelectiveDecoder(source, index, self.frame_ticks, first_tick)
        self._sequential = SequentialDecoder(source, index, self.frame_ticks, self.start_seconds, first_tick)

    @property
    def orientation(self) -> Orientation:
        """Orientation of the frames; the first use decodes a frame if none was decoded yet."""
        if self._orientation is None:
            self._decode_first()
        assert self._orientation is not None
        return self._orientation

    def _decode_first(self) -> None:
        """Decode the first frame; where a file begins between two keyframes, the stream starts at the second one."""
        try:
            next(self._shown([self.start_seconds]))
        except MediaError as error:
            if error.reason != "out_of_range" or error.second is None or error.second >= self.stop_seconds:
                raise
            self.lost_seconds = error.second - self.start_seconds
            self.start_seconds = error.second
            next(self._shown([self.start_seconds]))

    @property
    def clock_fault(self) -> str | None:
        """Reason why the container's timestamps mislead other backends; None if they do not."""
        if not self.source.seeks_exactly:
            return "timestamps in an MPEG program stream are wrong after a seek"
        if self.source.counts_frames(self.index):
            return "AVI does not say when frames of this kind are shown"
        return None

    def size(self, short_side: int | None = None) -> tuple[int, int]:
        """Return the upright (height, width) in square pixels, resized if requested."""
        width, height = self.square_size
        if self.orientation.transpose:
            width, height = height, width
        return resized(width, height, short_side)

    def read(self, at_seconds: Sequence[float], short_side: int | None) -> Tensor:
        """Read frames; see :meth:`avssl.media.MediaReader.read_frames`. The times lie inside the stream."""
        order = sorted(range(len(at_seconds)), key=at_seconds.__getitem__)
        shown = self._shown([at_seconds[i] for i in order])
        first = next(shown, None)  # decodes, so that the orientation is known without an extra frame
        height, width = self.size(short_side)
        out = torch.empty(len(order), 3, height, width, dtype=torch.uint8)
        done: tuple[Any, int] | None = None  # the last converted frame and its index in ``out``
        for i, frame in zip(order, _chain(first, shown), strict=True):
            if done is not None and done[0] is frame:
                out[i] = out[done[1]]
            else:
                self._convert(frame, out[i], at_seconds[i])
                done = frame, i
        return out

    def rgb(self, frame: Any, second: float, short_side: int | None) -> Tensor:
        """Convert a decoded frame to (3, H, W) uint8."""
        out = torch.empty(3, *self.size(short_side), dtype=torch.uint8)
        self._convert(frame, out, second)
        return out

    def planes(self, frame: Any, second: float, short_side: int | None) -> Planes:
        """Convert a decoded frame to 4:2:0; the file's own samples if it has the size and the colors already."""
        self._check_frame(frame, second)
        height, width = stored = self.size(short_side)[:: -1 if self.orientation.transpose else 1]
        flags = _CONVERT if (width, height) == (frame.width, frame.height) else _RESIZE
        colors = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
        planes = self._reformat(frame, width, height, "yuv420p", flags, **colors)
        halves = ((height + 1) // 2, (width + 1) // 2)
        luma, *chroma = (
            torch.frombuffer(plane, dtype=torch.uint8).as_strided(size, (plane.line_size, 1))
            for plane, size in zip(planes, (stored, halves, halves), strict=True)
        )
        return Planes(
            self.orientation.apply(luma).contiguous(), self.orientation.apply(torch.stack(chroma)).contiguous()
        )

    def stream(
        self, at_seconds: Sequence[float], short_side: int | None, convert: Callable[[Any, float, int | None], T]
    ) -> Iterator[T]:
        """Yield :meth:`rgb` or :meth:`planes` of the frames shown at ascending times, each converted once."""
        done: tuple[Any, T] | None = None
        for frame, second in zip(self._shown(at_seconds), at_seconds, strict=True):
            if done is None or done[0] is not frame:
                done = frame, convert(frame, second, short_side)
            yield done[1]

    def _shown(self, at_seconds: Sequence[float]) -> Iterator[Any]:
        """Yield the frame shown at each of the ascending times."""
        ticks = [self._tick(second) for second in at_seconds]
        found = 0
        if self._selective.usable:
            try:
                for shown in self._selective.shown(at_seconds, ticks):
                    yield self._checked(*shown, at_seconds[found])
                    found += 1
            except TimestampMismatch:
                self._selective.usable = False
        if found < len(ticks):
            rest = self._sequential.shown(at_seconds[found:], ticks[found:])
            for shown, second in zip(rest, at_seconds[found:], strict=True):
                yield self._checked(*shown, second)

    def _tick(self, second: float) -> int:
        return math.floor((second + ROUNDING_SECONDS) / self.time_base)

    def _checked(self, tick: int, frame: Any, is_last: bool, second: float) -> Any:
        """Return the frame; raise if it stands for later frames that are missing from the file."""
        if self._orientation is None:
            self._orientation = Orientation.of(frame)
        if is_last:
            stop = max(tick + max(frame.duration or 0, self.frame_ticks), self.source.repeated_until or 0)
            end = float(stop * self.time_base)
            if second > end + _END_SECONDS and not self.source.repeats_at_end:
                found = f"the video ends at {end:.3f} s although the container says {self.stop_seconds:.3f} s."
                raise self.source.error("video", found, second, cut=True)
        return frame

    def _convert(self, frame: Any, out: Tensor, second: float) -> None:
        """Resize a frame, convert it to RGB and turn it, into ``out``, (3, H, W)."""
        self._check_frame(frame, second)
        height, width = out.shape[-2:]
        if self.orientation.transpose:
            width, height = height, width
        if (width, height) == (frame.width, frame.height):
            # Packed: unscaled, FFmpeg 8.1 leaves the last columns of "gbrp" unset where the width is no multiple of 16.
            plane = self._reformat(frame, width, height, "rgb24", _CONVERT)[0]
            stored = torch.frombuffer(plane, dtype=torch.uint8).as_strided((3, height, width), (1, plane.line_size, 3))
            out.copy_(self.orientation.apply(stored))
            return
        # Planar: when scaling, it takes half the time of "rgb24" and never differs from it by more than one.
        green, blue, red = self._reformat(frame, width, height, "gbrp", _RESIZE)
        for channel, plane in zip(out, (red, green, blue), strict=True):
            stored = torch.frombuffer(plane, dtype=torch.uint8).as_strided((height, width), (plane.line_size, 1))
            channel.copy_(self.orientation.apply(stored))

    def _check_frame(self, frame: Any, second: float) -> None:
        self.source.deadline.check()
        if frame.is_corrupt:
            raise self.source.error("video", "the frame is damaged.", second)
        self._limits.check_pixels(str(self.source.path), frame.width, frame.height)

    def _reformat(self, frame: Any, width: int, height: int, pixels: str, flags: Interpolation, **colors: Any) -> Any:
        converted = self._reformatter.reformat(
            frame, width=width, height=height, format=pixels, interpolation=flags, threads=1, **colors
        )
        return converted.planes


def _square_size(stream: Any) -> tuple[int, int]:
    """Return the stored (width, height), the width stretched so that pixels are square."""
    aspect = float(stream.sample_aspect_ratio or 1) or 1.0
    aspect = 1.0 if abs(aspect - 1) < _SQUARE else aspect
    return max(1, round(stream.width * aspect)), stream.height


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    if first is not None:
        yield first
    yield from rest


def _side_data(frame: Any) -> list[Any]:
    return [frame.side_data[i] for i in range(len(frame.side_data))]


def _side_data_types(frame: Any) -> set[Any]:
    return {data.type for data in _side_data(frame)}
