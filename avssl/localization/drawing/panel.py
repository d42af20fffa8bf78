"""One frame of a video under its heat map or the maps of the heads, with boxes and a title."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import Heatmap
from avssl.core.ranges import Share, checked
from avssl.localization.drawing.boxes import Box, box_threshold, hot_box
from avssl.localization.drawing.glow import Glow
from avssl.localization.drawing.scale import heat_at
from avssl.media import Planes
from avssl.media.planes import BLACK, GRAY, WHITE, to_planes
from avssl.reports.figures import color_table, text_image

HEAD_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00")
"""Palette of Okabe and Ito, safe for color-blind viewers; repeated for more heads."""


@checked
@dataclass(frozen=True)
class Look:
    """Drawing options of heat maps.

    Example:
        >>> Look(opacity=0.5, boxes=0.8).box_share, Look(boxes=True).box_share, Look().box_share
        (0.8, 0.5, None)
    """

    opacity: Share = 0.7
    """Opacity of the highest color, in [0, 1]."""
    colormap: str = "inferno"
    """A matplotlib name."""
    strip: bool = True
    """Draw confidence, waveform and color scale under the frame."""
    boxes: Share | bool = False
    """Draw a box around the region at or above this share of the color scale, in [0, 1]; 0.5 if no share is given."""
    heads: bool = False
    """Draw the map of each of the model's heads in its own color, later ones over earlier ones."""

    @property
    def box_share(self) -> float | None:
        """Share of the color scale at the edge of the box; None without boxes."""
        if isinstance(self.boxes, bool):
            return 0.5 if self.boxes else None
        return self.boxes

    def colors(self, num_layers: int) -> list[Tensor]:
        """Return (256, 3) RGB of each layer, from the lowest to the highest level."""
        if not self.heads:
            return [color_table(self.colormap)] * num_layers
        ramp = torch.linspace(0, 1, 256)[:, None]
        return [ramp * _rgb(HEAD_COLORS[number % len(HEAD_COLORS)]) for number in range(num_layers)]


class Panel:
    """Draw one frame with its maps; all panels share a color scale.

    Args:
        layers: Maps of the video: one, or one per head.
        frame_hw: (H, W) of the frames.
        scale: Cosines of the lowest and the highest color.
        look: Drawing options.
        title: A line above the frame; none if empty.
    """

    def __init__(
        self, layers: Sequence[Heatmap], frame_hw: tuple[int, int], scale: tuple[float, float], look: Look, title: str
    ) -> None:
        self._layers, self._scale = layers, scale
        self._threshold = None if look.box_share is None else box_threshold(scale, look.box_share)
        self._glows = [
            Glow((layer.values.shape[1], layer.values.shape[2]), frame_hw, colors, look.opacity, dims=number == 0)
            for number, (layer, colors) in enumerate(zip(layers, look.colors(len(layers)), strict=True))
        ]
        height, width = (side + side % 2 for side in frame_hw)  # H.264 wants even sizes
        self._title = _title(title, width) if title else None
        self._top = 0 if self._title is None else self._title.luma.shape[0]
        self.size = self._top + height, width
        """(height, width), even."""

    def draw(self, canvas: Planes, top: int, left: int, second: float, picture: Planes) -> None:
        """Draw the frame shown at a time into the canvas, from row ``top`` and column ``left`` on."""
        at = torch.tensor([second], dtype=torch.float64)
        heats = [heat_at(layer, at)[0] for layer in self._layers]
        for glow, heat in zip(self._glows, heats, strict=True):
            picture = glow.draw(picture, heat, self._scale)
        if self._threshold is not None:
            for heat in heats:
                if box := hot_box(heat, self._threshold, picture.size):
                    _outline(picture, box)
        if self._title is not None:
            canvas.paste(self._title, top, left)
        canvas.paste(_even(picture), top + self._top, left)


def _outline(picture: Planes, box: Box) -> None:
    """Draw a white line with a black one inside, in place; the width grows with the frame."""
    height, width = picture.size
    line = 2 * max(1, round(min(height, width) / 500))  # even: whole samples of color
    left, top, right, bottom = (round(side / 2) * 2 for side in box)
    for luma, inset in ((WHITE, 0), (BLACK, line)):
        rows = slice(max(top + inset, 0), min(bottom - inset, height))
        columns = slice(max(left + inset, 0), min(right - inset, width))
        for area in (
            (slice(rows.start, rows.start + line), columns),
            (slice(max(rows.stop - line, rows.start), rows.stop), columns),
            (rows, slice(columns.start, columns.start + line)),
            (rows, slice(max(columns.stop - line, columns.start), columns.stop)),
        ):
            picture.luma[area] = luma
            picture.chroma[(slice(None), *(slice(side.start // 2, (side.stop + 1) // 2) for side in area))] = GRAY


def _even(picture: Planes) -> Planes:
    """Repeat the last row or column of an odd side; the chroma planes already cover it."""
    height, width = picture.size
    if height % 2 == width % 2 == 0:
        return picture
    luma = F.pad(picture.luma[None, None].float(), (0, width % 2, 0, height % 2), mode="replicate")
    return Planes(luma[0, 0].byte(), picture.chroma)


def _title(text: str, width: int) -> Planes:
    height = 2 * round(max(24, width / 40) / 2)
    return to_planes(255 - text_image(text, width, height))


def _rgb(color: str) -> Tensor:
    return torch.tensor([int(color[place : place + 2], 16) for place in (1, 3, 5)], dtype=torch.float32)
