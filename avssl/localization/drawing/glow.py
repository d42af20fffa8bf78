"""Heat maps drawn on the planes of a video in integer arithmetic.

The result equals :func:`avssl.localization.drawing.blend.blend` within rounding, in a tenth of its time.

In Y'CbCr, removing half of a frame's color scales its chroma, so a heat level (of 256) turns each sample p of a plane
into ``keep[level] * p / 256 + add[level]``. Both are tables of bytes; ``add`` has another one for its fraction. The map
is enlarged by two matrix products, which are a bicubic interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.localization.drawing.blend import DIMMED_COLOR, DIMMED_LUMA, resize_image
from avssl.media import Planes
from avssl.media.planes import BLACK, GRAY, rgb_to_ycc

_MIDDLE = 128  # sample value at which the rounding errors of ``keep`` and ``add`` cancel


@dataclass(frozen=True, eq=False)
class _Table:
    """Lookup tables of one plane, 256 bytes each, by heat level."""

    keep: bytes
    add: bytes
    fraction: bytes

    @classmethod
    def of(cls, opacity: Tensor, color: Tensor, kept: float, black: int) -> _Table:
        """Build tables from (256,) opacities and color samples, for a frame scaled by ``kept`` around ``black``."""
        share = (1 - opacity) * kept
        keep = (256 * share).round().clamp(max=255)
        middle = share * _MIDDLE + (1 - opacity) * (1 - kept) * black + opacity * color
        add = (256 * middle - keep * _MIDDLE + 128).round().clamp(0, 2**16 - 1).int()  # 128: round to nearest
        return cls(*(table.byte().numpy().tobytes() for table in (keep, add >> 8, add & 255)))

    def apply(self, samples: np.ndarray, levels: bytes) -> np.ndarray:
        """Return uint8 samples under the heat, given a level for each."""
        shape = samples.shape
        # bytes.translate looks up a megabyte in 0.4 ms; indexing arrays takes four times as long.
        product = np.multiply(samples, _plane(levels.translate(self.keep), shape), dtype=np.uint16)
        product += _plane(levels.translate(self.fraction), shape)
        product >>= 8
        return product.astype(np.uint8) + _plane(levels.translate(self.add), shape)


class Glow:
    """Draw one kind of heat on frames of one size.

    Args:
        map_hw: Cells of the maps, (h, w).
        frame_hw: (H, W) of the frames.
        colors: (256, 3) RGB in [0, 255] from the lowest to the highest level.
        opacity: Opacity of the highest level, in [0, 1]; lower ones are proportional.
        dims: Whether the frame loses half of its own color. Of several layers on one frame, the first dims it.
    """

    def __init__(
        self, map_hw: tuple[int, int], frame_hw: tuple[int, int], colors: Tensor, opacity: float, dims: bool = True
    ) -> None:
        if not 0 <= opacity <= 1:
            raise InputError(f"opacity ({opacity}) must be in [0, 1].")
        opacities = opacity * torch.linspace(0, 1, 256)
        luma, cb, cr = rgb_to_ycc(colors.T)
        kept = (DIMMED_LUMA, DIMMED_COLOR) if dims else (1.0, 1.0)
        self._luma = _Table.of(opacities, luma, kept[0], BLACK)
        self._chroma = [_Table.of(opacities, plane, kept[1], GRAY) for plane in (cb, cr)]
        rows, columns = (_enlarging(*sides) for sides in zip(map_hw, frame_hw, strict=True))
        self._enlarge = _Enlarge(rows, columns)
        self._enlarge_half = _Enlarge(_halved(rows), _halved(columns))

    def draw(self, frame: Planes, heat: Tensor, scale: tuple[float, float]) -> Planes:
        """Return a copy of a frame with an (h, w) map drawn over all of it.

        ``scale`` holds the values of the lowest and the highest color; nothing is drawn if they are equal.
        """
        low, high = scale
        level = torch.zeros_like(heat) if high <= low else (heat - low) / (high - low)
        full, half = self._enlarge(level), self._enlarge_half(level)
        chroma = np.stack(
            [table.apply(plane, half) for table, plane in zip(self._chroma, frame.chroma.numpy(), strict=True)]
        )
        luma = self._luma.apply(frame.luma.numpy(), full)
        return Planes(torch.from_numpy(luma), torch.from_numpy(chroma))


class _Enlarge:
    """Enlarge (h, w) levels in [0, 1] to H * W bytes, by (H, h) and (W, w) weights."""

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        self._rows, self._columns = rows, columns.T.contiguous()

    def __call__(self, level: Tensor) -> bytes:
        enlarged = (self._rows @ (255 * level.float() @ self._columns)).numpy()
        enlarged += 0.5
        np.clip(enlarged, 0, 255, out=enlarged)
        return enlarged.astype(np.uint8).tobytes()


def _enlarging(cells: int, pixels: int) -> Tensor:
    """Return the (pixels, cells) interpolation weights: each cell enlarged by itself."""
    return resize_image(torch.eye(cells)[None, None], (pixels, cells))[0, 0]


def _halved(weights: Tensor) -> Tensor:
    """Average pairs of pixels: (ceil(pixels / 2), cells); the last of an odd number is kept."""
    weights = torch.cat([weights, weights[-1:]])[: 2 * ((len(weights) + 1) // 2)]
    return (weights[0::2] + weights[1::2]) / 2


def _plane(samples: bytes, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(samples, np.uint8).reshape(shape)
