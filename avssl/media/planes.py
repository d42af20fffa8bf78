"""Frames in 4:2:0, as H.264 stores them: full-size luma and half-size chroma, half the bytes of RGB."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.errors import InputError

BLACK, WHITE, GRAY = 16, 235, 128
"""Luma of black and of white, and the chroma of both."""

_RED, _GREEN, _BLUE = 0.2126, 0.7152, 0.0722  # luma weights, ITU-R BT.709
_LUMA_RANGE, _CHROMA_RANGE = 219 / 255, 224 / 255


@dataclass(frozen=True, eq=False)
class Planes:
    """One frame in 4:2:0, BT.709, limited range.

    Example:
        >>> frame = Planes.of(235, height=48, width=64)  # white
        >>> frame.luma.shape, frame.chroma.shape
        (torch.Size([48, 64]), torch.Size([2, 24, 32]))
    """

    luma: Tensor
    """(H, W) uint8."""
    chroma: Tensor
    """(2, ceil(H / 2), ceil(W / 2)) uint8: Cb and Cr."""

    def __post_init__(self) -> None:
        half = tuple((side + 1) // 2 for side in self.luma.shape)
        if self.luma.ndim != 2 or tuple(self.chroma.shape) != (2, *half):
            raise InputError(
                "luma must be (H, W) and chroma (2, ceil(H / 2), ceil(W / 2)), "
                f"got {tuple(self.luma.shape)} and {tuple(self.chroma.shape)}."
            )
        if not self.luma.dtype == self.chroma.dtype == torch.uint8:
            raise InputError(f"planes must be uint8, got {self.luma.dtype} and {self.chroma.dtype}.")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.luma.shape[0], self.luma.shape[1]

    @classmethod
    def of(cls, luma: int, height: int, width: int) -> Planes:
        """Return a uniformly gray frame."""
        half = (height + 1) // 2, (width + 1) // 2
        return cls(
            torch.full((height, width), luma, dtype=torch.uint8), torch.full((2, *half), GRAY, dtype=torch.uint8)
        )

    def paste(self, other: Planes, top: int, left: int) -> None:
        """Copy another frame onto this one, in place; ``top`` and ``left`` are even and it fits."""
        height, width = other.size
        self.luma[top : top + height, left : left + width] = other.luma
        top, left = top // 2, left // 2
        height, width = other.chroma.shape[1:]
        self.chroma[:, top : top + height, left : left + width] = other.chroma


def rgb_to_ycc(colors: Tensor) -> Tensor:
    """Convert (3, ...) RGB in [0, 255] to (3, ...) float32: luma in [16, 235] and Cb, Cr in [16, 240]."""
    red, green, blue = colors.float()
    luma = _RED * red + _GREEN * green + _BLUE * blue
    cb, cr = (blue - luma) / (2 - 2 * _BLUE), (red - luma) / (2 - 2 * _RED)
    return torch.stack([BLACK + _LUMA_RANGE * luma, GRAY + _CHROMA_RANGE * cb, GRAY + _CHROMA_RANGE * cr])


def to_planes(frame: Tensor) -> Planes:
    """Convert (3, H, W) uint8 RGB; each chroma sample is the mean of its 2 x 2 pixels."""
    luma, *chroma = rgb_to_ycc(frame)
    height, width = luma.shape
    wide = F.pad(torch.stack(chroma)[None], (0, width % 2, 0, height % 2), mode="replicate")
    halved = F.avg_pool2d(wide, 2)[0]
    return Planes(luma.round().byte(), halved.round().byte())


def to_rgb(planes: Planes) -> Tensor:
    """Convert to (3, H, W) uint8 RGB, with bilinear chroma."""
    height, width = planes.size
    halves = planes.chroma.float()[None]
    full = F.interpolate(halves, size=[2 * side for side in halves.shape[2:]], mode="bilinear", align_corners=False)
    cb, cr = (full[0, :, :height, :width] - GRAY) / _CHROMA_RANGE
    luma = (planes.luma.float() - BLACK) / _LUMA_RANGE
    red, blue = luma + (2 - 2 * _RED) * cr, luma + (2 - 2 * _BLUE) * cb
    green = (luma - _RED * red - _BLUE * blue) / _GREEN
    return torch.stack([red, green, blue]).round_().clamp_(0, 255).byte()
