"""Figures, contact sheets and lines of text as (3, H, W) uint8 tensors.

matplotlib provides color maps and text through its Agg canvas, and is imported only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.errors import InputError
from avssl.core.whole_file import whole_file
from avssl.reports.fonts import legible, make_legible, text_width


def contact_sheet(
    images: Sequence[Tensor], columns: int, *, captions: Sequence[str] | None = None, gap: int = 4
) -> Tensor:
    """Arrange images in rows on white, each with a caption below.

    Args:
        images: (3, H, W) uint8 each, all of one size.
        columns: Number of images in a row, >= 1.
        captions: One line each, shrunk to the width of the image.
        gap: Pixels between images.

    Returns:
        (3, H', W') uint8.

    Raises:
        ValueError: If sizes differ, there are no images, or the number of captions differs.
    """
    sizes = {tuple(image.shape) for image in images}
    if len(sizes) != 1 or columns < 1:
        raise InputError(f"a sheet needs images of one size and columns >= 1, got sizes {sorted(sizes)} and {columns}.")
    if captions is not None and len(captions) != len(images):
        raise InputError(f"{len(captions)} captions for {len(images)} images.")
    tiles = [F.pad(image, (0, gap, 0, 0 if captions else gap), value=255) for image in images]
    if captions is not None:
        height = 20
        lines = [text_image(caption, images[0].shape[2] + gap, height) for caption in captions]
        tiles = [
            torch.cat((tile, F.pad(line, (0, 0, 0, gap), value=255)), dim=1)
            for tile, line in zip(tiles, lines, strict=True)
        ]
    tiles += [torch.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [torch.cat(tiles[first : first + columns], dim=2) for first in range(0, len(tiles), columns)]
    return F.pad(torch.cat(rows, dim=1), (gap, 0, gap, 0), value=255)


def text_image(text: str, width: int, height: int) -> Tensor:
    """Draw a centered line of black text on white, shrunk to fit, as (3, height, width) uint8."""
    figure = new_figure(width, height, dpi=100)
    letters = max(text_width(legible(text)), 1)  # each 0.6 times as wide as high
    size = min(0.6 * height, 14, 1.6 * width / letters) * 72 / 100  # in points
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=size, parse_math=False)
    return figure_image(figure)


def new_figure(width: int, height: int, dpi: float) -> Any:
    """Create a matplotlib figure of a size in pixels, without pyplot's global state.

    Its texts may be of any script: see :mod:`avssl.reports.fonts`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _figure_class()(figsize=(width / dpi, height / dpi), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path | str) -> None:
    """Write a figure as PNG, whole or not at all. Errors are as in :func:`avssl.core.whole_file.whole_file`."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


@cache
def _figure_class() -> Any:
    from matplotlib.figure import Figure

    class LegibleFigure(Figure):
        """A figure that looks for fonts before its texts are measured or drawn."""

        def draw(self, renderer: Any) -> None:
            make_legible(self)
            super().draw(renderer)

        def tight_layout(self, **options: Any) -> None:
            make_legible(self)
            super().tight_layout(**options)

    return LegibleFigure


def figure_image(figure: Any) -> Tensor:
    """Render a figure of :func:`new_figure` as (3, H, W) uint8."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.copy()).movedim(-1, 0)


@cache
def color_table(colormap: str) -> Tensor:
    """Return a color map of matplotlib as (256, 3) float32 in [0, 255].

    Raises:
        ValueError: If matplotlib has no such color map.
    """
    import matplotlib

    if colormap not in matplotlib.colormaps:
        raise InputError(f"colormap ({colormap!r}) is not one of matplotlib's; try inferno, magma or viridis.")
    return torch.from_numpy(matplotlib.colormaps[colormap](np.linspace(0, 1, 256))[:, :3] * 255).float()
