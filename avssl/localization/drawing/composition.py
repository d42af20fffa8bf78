"""Complete output frames: frames under heat maps, side by side, and the strip below them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from avssl.core.batch import Heatmap
from avssl.core.familiarity import STAMP
from avssl.localization.drawing.blend import resize_image
from avssl.localization.drawing.panel import HEAD_COLORS, Look, Panel
from avssl.localization.drawing.scale import Scale, by_head, color_limits
from avssl.localization.drawing.stamp import stamp
from avssl.localization.drawing.strip import Curve, Strip
from avssl.media import Planes
from avssl.media.planes import BLACK

_CURVE_COLORS = ("#ffb45c", "#b48cff", "#7fd4a0", "#ff7a90")


class Composition:
    """Draw one video's maps, frame by frame; a line above them says so if the video is foreign to the model.

    Args:
        maps: Maps by title; all are drawn on one scale, beside each other.
        frame_hw: Height and width of the frames that are passed to :meth:`draw`.
        enlarge: Integer factor by which they are enlarged.
        span: (start, stop) presentation seconds of the drawn part.
        scale: See :data:`avssl.localization.drawing.scale.Scale`.
        look: Drawing options.
        envelope: (2, columns) of the audio of the span; see :func:`avssl.localization.drawing.strip.sound_envelope`.

    Raises:
        InputError: If an option is out of range or there is no map.
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
        """Cosines of the lowest and the highest color."""
        self._enlarge = enlarge
        hw = enlarge * frame_hw[0], enlarge * frame_hw[1]
        self._panels = [Panel(of_title, hw, self.limits, look, title) for title, of_title in layers.items()]
        height, width = self._panels[0].size
        width = len(self._panels) * width
        is_foreign = any(
            heatmap.familiarity is not None and heatmap.familiarity.is_foreign for heatmap in maps.values()
        )
        self._stamp = stamp(STAMP, width) if is_foreign else None
        self._top = 0 if self._stamp is None else self._stamp.size[0]
        height += self._top
        self._strip_top = height
        self._strip = None
        if look.strip:
            kinds = look.colors(len(every) // len(layers))
            self._strip = Strip(width, _curves(layers), envelope, span, self.limits, kinds)
            height += self._strip.height
        self.size = height, width
        """(height, width) of the output, even."""

    def draw(self, second: float, picture: Planes) -> Planes:
        """Draw the output for a presentation time and the video's frame at that time."""
        canvas = Planes.of(BLACK, *self.size)
        picture = enlarged(picture, self._enlarge)
        for number, panel in enumerate(self._panels):
            panel.draw(canvas, self._top, number * panel.size[1], second, picture)
        if self._stamp is not None:
            canvas.paste(self._stamp, 0, 0)
        if self._strip is not None:
            canvas.paste(self._strip.at(second), self._strip_top, 0)
        return canvas


def layers_of(maps: Mapping[str, Heatmap], look: Look) -> dict[str, list[Heatmap]]:
    """Return the layers drawn over each frame: its map, or those of its heads."""
    return {title: by_head(heatmap) if look.heads else [heatmap] for title, heatmap in maps.items()}


def enlarged(picture: Planes, factor: int) -> Planes:
    """Enlarge a frame by an integer factor, smoothly."""
    if factor == 1:
        return picture
    height, width = (factor * side for side in picture.size)
    half = (height + 1) // 2, (width + 1) // 2
    return Planes(
        resize_image(picture.luma[None, None], (height, width))[0, 0], resize_image(picture.chroma[None], half)[0]
    )


def _curves(layers: Mapping[str, list[Heatmap]]) -> list[Curve]:
    """Return a curve for each map, in the colors of the heads if there are several."""
    curves = []
    for place, (title, of_title) in enumerate(layers.items()):
        for head, layer in enumerate(of_title):
            if len(of_title) > 1:
                label, color = f"{title} head {head + 1}".strip(), HEAD_COLORS[head % len(HEAD_COLORS)]
            else:
                label, color = title, _CURVE_COLORS[place % len(_CURVE_COLORS)]
            curves.append(Curve(label, color, layer.at_seconds, layer.confidence))
    return curves
