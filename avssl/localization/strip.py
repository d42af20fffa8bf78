"""The strip under a heat-map video: how sure the map is, what is heard, and which colour is which number."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avssl.batch import Heatmap
from avssl.localization.drawing import color_table, figure_image, new_figure

_LEFT, _RIGHT = 0.06, 0.85  # of the width: where the two lanes lie
_LANES = {"confidence": (0.62, 0.26), "sound": (0.17, 0.28)}  # of the height: bottom and height
_INK, _PAPER = "#dddddd", "#101014"


class Strip:
    """Drawn once; only its cursor moves.

    Args:
        width: Pixels.
        heatmap: Its confidence is drawn in cosine, on an axis of its own, whatever the colour scale.
        sound: (S,) waveform of [start, stop), or None.
        span: (start, stop) presentation seconds of the video.
        scale: Cosines of the lowest and the highest colour.
        colormap: A matplotlib name.
    """

    def __init__(
        self,
        width: int,
        heatmap: Heatmap,
        sound: Tensor | None,
        span: tuple[float, float],
        scale: tuple[float, float],
        colormap: str,
    ) -> None:
        zoom = max(1.0, width / 480)
        self.height = 2 * round(60 * zoom)
        self._span = span
        self._columns = (_LEFT * width, _RIGHT * width)
        self._rows = slice(
            round(self.height * (1 - sum(_LANES["confidence"]))), round(self.height * (1 - _LANES["sound"][0]))
        )
        figure = new_figure(width, self.height, dpi=100 * zoom)
        figure.set_facecolor(_PAPER)
        axes = {name: figure.add_axes((_LEFT, bottom, _RIGHT - _LEFT, high)) for name, (bottom, high) in _LANES.items()}
        _draw_confidence(axes["confidence"], heatmap, span)
        _draw_sound(axes["sound"], sound, span, round(self._columns[1] - self._columns[0]))
        _draw_scale(figure.add_axes((0.88, 0.17, 0.03, 0.65)), scale, colormap)
        self._image = figure_image(figure)

    def at(self, second: float) -> Tensor:
        """(3, height, width) uint8 with the cursor at a presentation time."""
        image = self._image.clone()
        share = (second - self._span[0]) / (self._span[1] - self._span[0])
        column = round(self._columns[0] + share * (self._columns[1] - self._columns[0]))
        image[:, self._rows, column : column + 2] = 255
        return image


def _draw_confidence(axes: Any, heatmap: Heatmap, span: tuple[float, float]) -> None:
    confidence = heatmap.confidence.numpy()
    axes.fill_between(heatmap.at_seconds.numpy(), min(0.0, confidence.min()), confidence, color="#e8963a", alpha=0.5)
    axes.plot(heatmap.at_seconds.numpy(), confidence, color="#ffb45c", linewidth=1)
    # At least 0..0.5, so that the noise of a model that finds nothing does not fill the lane.
    low, high = min(0.0, float(confidence.min())), max(0.5, float(confidence.max()) * 1.1)
    axes.set(ylim=(low, high), yticks=[0.0, 0.5])
    _dress(axes, "confidence", span)
    axes.set_xticks([])


def _draw_sound(axes: Any, sound: Tensor | None, span: tuple[float, float], columns: int) -> None:
    if sound is not None and len(sound) > columns > 0:
        step = len(sound) // columns
        blocks = sound[: step * columns].view(columns, step)
        seconds = span[0] + (torch.arange(columns) + 0.5) / columns * (span[1] - span[0])
        axes.fill_between(
            seconds.numpy(), blocks.amin(1).numpy(), blocks.amax(1).numpy(), color="#6cb2e0", linewidth=0.4
        )
        peak = max(float(sound.abs().max()), 0.05)
        axes.set_ylim(-1.05 * peak, 1.05 * peak)
    axes.set_yticks([])
    _dress(axes, "sound", span)
    axes.tick_params(axis="x", labelsize=6, colors=_INK, length=2, pad=1)


def _draw_scale(axes: Any, scale: tuple[float, float], colormap: str) -> None:
    axes.imshow(color_table(colormap).numpy()[::-1, None] / 255, aspect="auto")
    axes.set(xticks=[], yticks=[0, 255])
    axes.set_yticklabels([f"{scale[1]:.2f}", f"{scale[0]:.2f}"])
    axes.yaxis.tick_right()
    axes.tick_params(labelsize=6, colors=_INK, length=2, pad=1)
    axes.set_title("cosine", fontsize=6, color=_INK, pad=2)


def _dress(axes: Any, label: str, span: tuple[float, float]) -> None:
    axes.set_facecolor(_PAPER)
    axes.set_xlim(*span)
    axes.text(0, 1.04, label, fontsize=6, color=_INK, ha="left", va="bottom", transform=axes.transAxes)
    axes.tick_params(axis="y", labelsize=5, colors=_INK, length=2, pad=1)
    for spine in axes.spines.values():
        spine.set_color("#444444")
