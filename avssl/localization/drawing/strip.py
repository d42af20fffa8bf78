"""The strip below a heat-map video: confidence, waveform and color scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avssl.media import Planes
from avssl.media.planes import GRAY, WHITE, to_planes
from avssl.reports.figures import figure_image, new_figure

_LEFT, _RIGHT = 0.06, 0.85  # limits of the two lanes, as shares of the width
_LANES = {"confidence": (0.62, 0.26), "audio": (0.17, 0.28)}  # bottom and height, as shares of the height
_LETTERS = 800  # width in pixels from which letters grow with it
_INK, _PAPER = "#dddddd", "#101014"


@dataclass(frozen=True, eq=False)
class Curve:
    """Confidence of one map over time."""

    label: str
    """Legend entry, if there are several curves."""
    color: str
    """A matplotlib color."""
    at_seconds: Tensor
    """(T,) float64 presentation times."""
    confidence: Tensor
    """(T,) float32 cosines."""


def sound_envelope(chunks: Iterable[Tensor], num_samples: int, columns: int) -> Tensor:
    """Compute the lowest and the highest sample in equal parts of the audio, (2, columns) float32.

    Args:
        chunks: Consecutive (C, S) chunks, ``num_samples`` in all; channels are averaged.
        num_samples: Number of samples, > 0.
        columns: Number of parts; a part without samples is NaN.
    """
    envelope = torch.tensor([[torch.inf], [-torch.inf]]).repeat(1, columns)
    first = 0
    for chunk in chunks:
        mono = chunk.mean(dim=0)
        column = (first + torch.arange(len(mono))) * columns // num_samples
        envelope[0].scatter_reduce_(0, column, mono, "amin")
        envelope[1].scatter_reduce_(0, column, mono, "amax")
        first += len(mono)
    return envelope.where(envelope.isfinite(), torch.nan)


class Strip:
    """A strip that is drawn once; only its cursor moves.

    Args:
        width: Width in pixels, even.
        curves: At least one, drawn as cosines on an axis independent of the color scale.
        envelope: (2, columns) of the audio of the span.
        span: (start, stop) presentation seconds of the video.
        scale: Cosines of the lowest and the highest color.
        colors: (256, 3) RGB in [0, 255] of each layer.
    """

    def __init__(
        self,
        width: int,
        curves: Sequence[Curve],
        envelope: Tensor,
        span: tuple[float, float],
        scale: tuple[float, float],
        colors: Sequence[Tensor],
    ) -> None:
        zoom = max(1.0, width / _LETTERS)
        self.height = 2 * round(60 * zoom)
        self._span = span
        self._columns = (_LEFT * width, _RIGHT * width)
        self._cursor_width = 2 * max(1, round(zoom / 2))
        # Even, so that the cursor covers whole samples of color.
        top, bottom = 1 - sum(_LANES["confidence"]), 1 - _LANES["audio"][0]
        self._rows = slice(round(self.height * top) // 2 * 2, round(self.height * bottom) // 2 * 2)
        figure = new_figure(width, self.height, dpi=100 * zoom)
        figure.set_facecolor(_PAPER)
        axes = {name: figure.add_axes((_LEFT, bottom, _RIGHT - _LEFT, high)) for name, (bottom, high) in _LANES.items()}
        _draw_confidence(axes["confidence"], curves, span)
        _draw_audio(axes["audio"], envelope, span)
        _draw_scale(figure.add_axes((0.88, 0.17, 0.03, 0.65)), scale, colors)
        self._planes = to_planes(figure_image(figure))

    def at(self, second: float) -> Planes:
        """Return the strip, (height, width), with the cursor at a presentation time."""
        luma, chroma = self._planes.luma.clone(), self._planes.chroma.clone()
        share = (second - self._span[0]) / (self._span[1] - self._span[0])
        first = round(self._columns[0] + share * (self._columns[1] - self._columns[0])) // 2 * 2
        stop = first + self._cursor_width
        luma[self._rows, first:stop] = WHITE
        chroma[:, self._rows.start // 2 : self._rows.stop // 2, first // 2 : stop // 2] = GRAY
        return Planes(luma, chroma)


def _draw_confidence(axes: Any, curves: Sequence[Curve], span: tuple[float, float]) -> None:
    # At least 0 to 0.5, so that the noise of a model that finds nothing does not fill the lane.
    low = min(0.0, *(float(curve.confidence.min()) for curve in curves))
    high = max(0.5, *(float(curve.confidence.max()) * 1.1 for curve in curves))
    for curve in curves:
        seconds, confidence = curve.at_seconds.numpy(), curve.confidence.numpy()
        axes.fill_between(seconds, low, confidence, color=curve.color, alpha=0.5 / len(curves))
        axes.plot(seconds, confidence, color=curve.color, linewidth=1, label=curve.label)
    axes.set(ylim=(low, high), yticks=[0.0, 0.5])
    _dress(axes, "confidence", span)
    axes.set_xticks([])
    if len(curves) > 1:
        place = {"loc": "lower right", "bbox_to_anchor": (1, 0.95), "borderpad": 0, "borderaxespad": 0}
        axes.legend(ncols=len(curves), fontsize=6, labelcolor=_INK, frameon=False, handlelength=1, **place)


def _draw_audio(axes: Any, envelope: Tensor, span: tuple[float, float]) -> None:
    edges = np.linspace(*span, envelope.shape[1] + 1)
    axes.fill_between((edges[:-1] + edges[1:]) / 2, *envelope.numpy(), color="#6cb2e0", linewidth=0.4)
    peak = max(float(envelope.abs().nan_to_num().max()), 0.05)
    axes.set_ylim(-1.05 * peak, 1.05 * peak)
    axes.set_yticks([])
    _dress(axes, "audio", span)
    axes.tick_params(axis="x", labelsize=6, colors=_INK, length=2, pad=1)


def _draw_scale(axes: Any, scale: tuple[float, float], colors: Sequence[Tensor]) -> None:
    axes.imshow((torch.stack(list(colors), dim=1) / 255).flip(0).numpy(), aspect="auto", interpolation="nearest")
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
