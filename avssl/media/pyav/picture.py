"""The picture track of a PyAV container: the frame shown at each time, upright and resized."""

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

from avssl.core.errors import InputError
from avssl.media.planes import Planes
from avssl.media.pyav.planned import PlannedFrames, Unplanned
from avssl.media.pyav.source import Source
from avssl.media.pyav.walked import WalkedFrames
from avssl.media.reader import ROUNDING_SECONDS, MediaError

T = TypeVar("T")

_END_SECONDS = 0.1  # beyond the last frame's own duration; a longer hole means that the file was cut
# Unscaled: FFmpeg's default, bit for bit what other readers give. Resizing: else color has half the width's detail.
_CONVERT = Interpolation.BILINEAR
_RESIZE = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
_SQUARE = 0.02  # aspect ratios this near to 1 come from rounding sizes; resampling would only blur


@dataclass(frozen=True)
class Upright:
    """How decoded pictures become upright: transpose first, then flip."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def is_rotation(self) -> bool:
        """Whether no mirroring is involved."""
        return (self.transpose + self.flip_x + self.flip_y) % 2 == 0

    @classmethod
    def of(cls, frame: Any) -> Upright:
        """From the display matrix of a frame, to the nearest quarter turn.

        The matrix ``(a, b, u, c, d, v, x, y, w)`` takes a stored pixel (x, y) to the display place
        (a x + c y, b x + d y), y downward, in 16.16 fixed point.
        """
        if not frame.rotation and SideDataType.DISPLAYMATRIX not in _side_data_types(frame):
            return cls()
        data = next(d for d in _side_data(frame) if d.type == SideDataType.DISPLAYMATRIX)
        a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(data), dtype="<i4")[:5])
        transpose = abs(b) > abs(a)
        return cls(transpose, (c if transpose else a) < 0, (b if transpose else d) < 0)

    def apply(self, picture: Tensor) -> Tensor:
        """``(..., h, w)`` as stored to ``(..., H, W)`` upright."""
        picture = picture.transpose(-1, -2) if self.transpose else picture
        dims = [dim for dim, flip in ((-1, self.flip_x), (-2, self.flip_y)) if flip]
        return picture.flip(dims) if dims else picture


class PictureTrack:
    """Reads frames of one stream.

    Args:
        source: The container.
        index: The stream.
        fps: Average frames per second.
        span: (start, stop) in seconds.
        max_pixels: Largest width * height that is converted.
    """

    def __init__(self, source: Source, index: int, fps: float, span: tuple[float, float], max_pixels: int) -> None:
        self.source = source
        self.index = index
        self.start_seconds, self.stop_seconds = span
        self.max_pixels = max_pixels
        stream = source.stream(index)
        self.time_base = stream.time_base
        self.frame_ticks = max(1, round(1 / (fps * self.time_base))) if fps else 1
        self.square_size = _square_size(stream)
        self._upright: Upright | None = None
        self._reformatter = VideoReformatter()
        first_tick = self._tick(self.start_seconds)
        self._planned = PlannedFrames(source, index, self.frame_ticks, first_tick)
        self._walked = WalkedFrames(source, index, self.frame_ticks, self.start_seconds, first_tick)

    @property
    def upright(self) -> Upright:
        """How to turn the pictures; the first use decodes a frame if none was decoded yet."""
        if self._upright is None:
            next(self._shown([self.start_seconds]))
        assert self._upright is not None
        return self._upright

    def size(self, short_side: int | None = None) -> tuple[int, int]:
        """Upright (height, width) in square pixels, resized if asked."""
        width, height = self.square_size
        if self.upright.transpose:
            width, height = height, width
        if short_side is None:
            return height, width
        if short_side <= 0:
            raise InputError(f"short_side must be positive, got {short_side}.")
        shorter = min(width, height)
        return max(1, round(height * short_side / shorter)), max(1, round(width * short_side / shorter))

    def read(self, at_seconds: Sequence[float], short_side: int | None) -> Tensor:
        """See :meth:`avssl.media.MediaReader.read_frames`; the times lie inside the track."""
        order = sorted(range(len(at_seconds)), key=at_seconds.__getitem__)
        shown = self._shown([at_seconds[i] for i in order])
        first = next(shown, None)  # decodes, so that the orientation is known without an extra frame
        height, width = self.size(short_side)
        out = torch.empty(len(order), 3, height, width, dtype=torch.uint8)
        done: tuple[Any, int] | None = None  # the last converted frame and its place in ``out``
        for i, frame in zip(order, _chain(first, shown), strict=True):
            if done is not None and done[0] is frame:
                out[i] = out[done[1]]
            else:
                self._convert(frame, out[i], at_seconds[i])
                done = frame, i
        return out

    def rgb(self, frame: Any, second: float, short_side: int | None) -> Tensor:
        """(3, H, W) uint8 of a decoded frame."""
        out = torch.empty(3, *self.size(short_side), dtype=torch.uint8)
        self._convert(frame, out, second)
        return out

    def planes(self, frame: Any, second: float, short_side: int | None) -> Planes:
        """A decoded frame in 4:2:0, the file's own samples where it has the size and the colors already."""
        self._check_frame(frame, second)
        height, width = stored = self.size(short_side)[:: -1 if self.upright.transpose else 1]
        flags = _CONVERT if (width, height) == (frame.width, frame.height) else _RESIZE
        colors = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
        planes = self._reformat(frame, width, height, "yuv420p", flags, **colors)
        halves = ((height + 1) // 2, (width + 1) // 2)
        luma, *chroma = (
            torch.frombuffer(plane, dtype=torch.uint8).as_strided(size, (plane.line_size, 1))
            for plane, size in zip(planes, (stored, halves, halves), strict=True)
        )
        return Planes(self.upright.apply(luma).contiguous(), self.upright.apply(torch.stack(chroma)).contiguous())

    def stream(
        self, at_seconds: Sequence[float], short_side: int | None, convert: Callable[[Any, float, int | None], T]
    ) -> Iterator[T]:
        """:meth:`rgb` or :meth:`planes` of the frames shown at ascending times, each decoded and converted once."""
        done: tuple[Any, T] | None = None
        for frame, second in zip(self._shown(at_seconds), at_seconds, strict=True):
            if done is None or done[0] is not frame:
                done = frame, convert(frame, second, short_side)
            yield done[1]

    def _shown(self, at_seconds: Sequence[float]) -> Iterator[Any]:
        """The frame shown at each of the ascending times."""
        ticks = [self._tick(second) for second in at_seconds]
        found = 0
        if self._planned.usable:
            try:
                for shown in self._planned.shown(at_seconds, ticks):
                    yield self._checked(*shown, at_seconds[found])
                    found += 1
            except Unplanned:
                self._planned.usable = False
        if found < len(ticks):
            walked = self._walked.shown(at_seconds[found:], ticks[found:])
            for shown, second in zip(walked, at_seconds[found:], strict=True):
                yield self._checked(*shown, second)

    def _tick(self, second: float) -> int:
        return math.floor((second + ROUNDING_SECONDS) / self.time_base)

    def _checked(self, tick: int, frame: Any, is_last: bool, second: float) -> Any:
        """Holding the last frame is right up to its end, but not in place of frames that are missing."""
        if self._upright is None:
            self._upright = Upright.of(frame)
        if is_last:
            end = float((tick + max(frame.duration or 0, self.frame_ticks)) * self.time_base)
            if second > end + _END_SECONDS:
                found = f"the pictures end at {end:.3f} s although the container says {self.stop_seconds:.3f} s."
                raise self.source.error("video", found, second, cut=True)
        return frame

    def _convert(self, frame: Any, out: Tensor, second: float) -> None:
        """Resizes, converts to RGB and turns one frame into ``out``, (3, H, W)."""
        self._check_frame(frame, second)
        height, width = out.shape[-2:]
        if self.upright.transpose:
            width, height = height, width
        if (width, height) == (frame.width, frame.height):
            # Packed: unscaled, FFmpeg 8.1 leaves the last columns of "gbrp" unset where the width is no multiple of 16.
            plane = self._reformat(frame, width, height, "rgb24", _CONVERT)[0]
            stored = torch.frombuffer(plane, dtype=torch.uint8).as_strided((3, height, width), (1, plane.line_size, 3))
            out.copy_(self.upright.apply(stored))
            return
        # Planar: scaled, that takes half the time of "rgb24" and never differs from it by more than one.
        green, blue, red = self._reformat(frame, width, height, "gbrp", _RESIZE)
        for channel, plane in zip(out, (red, green, blue), strict=True):
            stored = torch.frombuffer(plane, dtype=torch.uint8).as_strided((height, width), (plane.line_size, 1))
            channel.copy_(self.upright.apply(stored))

    def _check_frame(self, frame: Any, second: float) -> None:
        if frame.is_corrupt:
            raise self.source.error("video", "the frame is damaged.", second)
        if frame.width * frame.height > self.max_pixels:
            raise too_large(str(self.source.path), frame.width, frame.height, self.max_pixels)

    def _reformat(self, frame: Any, width: int, height: int, pixels: str, flags: Interpolation, **colors: Any) -> Any:
        converted = self._reformatter.reformat(
            frame, width=width, height=height, format=pixels, interpolation=flags, threads=1, **colors
        )
        return converted.planes


def too_large(path: str, width: int, height: int, max_pixels: int) -> MediaError:
    """The error for pictures over the limit."""
    found = f"pictures of {width} x {height} are over the limit of {max_pixels} pixels."
    return MediaError(path, "video", "too_large", found, "Scale the file down, or raise max_pixels.")


def _square_size(stream: Any) -> tuple[int, int]:
    """Stored (width, height), the width stretched so that pixels are square."""
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
