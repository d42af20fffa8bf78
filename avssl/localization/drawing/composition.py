"""Everything that is seen at one time: pictures under heat, side by side, and the strip under them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from avssl.core.batch import Heatmap
from avssl.localization.drawing.blend import resize_image
from avssl.localization.drawing.panel import HEAD_COLORS, Look, Panel
from avssl.localization.drawing.scale import Scale, by_head, color_limits
from avssl.localization.drawing.strip import Curve, Strip
from avssl.media import Planes
from avssl.media.planes import BLACK

_CURVE_COLORS = ("#ffb45c", "#b48cff", "#7fd4a0", "#ff7a90")


class Composition:
    """Draws one video's maps, frame by frame.

    Args:
        maps: By title; all are drawn on one scale, beside each other.
        frame_hw: Height and width of the pictures that :meth:`draw` will be given.
        enlarge: Whole factor by which they are enlarged.
        span: (start, stop) presentation seconds of what is drawn.
        scale: See :data:`avssl.localization.drawing.scale.Scale`.
        look: How.
        envelope: (2, columns) of the sound of the span; see :func:`avssl.localization.drawing.strip.sound_envelope`.

    Raises:
        ValueError: If an option is out of range or there is no map.
    """

    def __init__(
        self,
        maps: Mapping[str, Heatmap],
        frame_hw: tuple[int, int],
        enlarge: int,
        span: tuple[float, float],
        scale: Scale,
        look: Look,
        envelope: Tensor,
    ) -> None:
        layers = layers_of(maps, look)
        every = [layer for of_title in layers.values() for layer in of_title]
        self.limits = color_limits(*every, scale=scale)
        """The cosines drawn as nothing and as full color."""
        self._enlarge = enlarge
        hw = enlarge * frame_hw[0], enlarge * frame_hw[1]
        self._panels = [Panel(of_title, hw, self.limits, look, title) for title, of_title in layers.items()]
        height, width = self._panels[0].size
        self._strip_top, width = height, len(self._panels) * width
        self._strip = None
        if look.strip:
            kinds = look.colors(len(every) // len(layers))
            self._strip = Strip(width, _curves(layers), envelope, span, self.limits, kinds)
            height += self._strip.height
        self.size = height, width
        """(height, width) of what is drawn, even."""

    def draw(self, second: float, picture: Planes) -> Planes:
        """What is seen at a presentation time, from the video's picture then."""
        canvas = Planes.of(BLACK, *self.size)
        picture = enlarged(picture, self._enlarge)
        for number, panel in enumerate(self._panels):
            panel.draw(canvas, number * panel.size[1], second, picture)
        if self._strip is not None:
            canvas.paste(self._strip.at(second), self._strip_top, 0)
        return canvas


def layers_of(maps: Mapping[str, Heatmap], look: Look) -> dict[str, list[Heatmap]]:
    """What is drawn over each picture: its map, or those of its heads."""
    return {title: by_head(heatmap) if look.heads else [heatmap] for title, heatmap in maps.items()}


def enlarged(picture: Planes, factor: int) -> Planes:
    """A picture a whole number of times as large, smoothly."""
    if factor == 1:
        return picture
    height, width = (factor * side for side in picture.size)
    half = (height + 1) // 2, (width + 1) // 2
    return Planes(
        resize_image(picture.luma[None, None], (height, width))[0, 0], resize_image(picture.chroma[None], half)[0]
    )


def _curves(layers: Mapping[str, list[Heatmap]]) -> list[Curve]:
    """One a map; in the colors of the heads where there are several."""
    curves = []
    for place, (title, of_title) in enumerate(layers.items()):
        for head, layer in enumerate(of_title):
            if len(of_title) > 1:
                label, color = f"{title} head {head + 1}".strip(), HEAD_COLORS[head % len(HEAD_COLORS)]
            else:
                label, color = title, _CURVE_COLORS[place % len(_CURVE_COLORS)]
            curves.append(Curve(label, color, layer.at_seconds, layer.confidence))
    return curves
