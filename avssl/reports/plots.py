"""Plots of similarity matrices, and of curves with their standard deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avssl.reports.figures import new_figure, save_figure

_MAX_ROWS_WITH_NUMBERS = 24
"""Largest number of rows with numbers in the cells."""


def draw_similarities(
    matrices: Mapping[str, np.ndarray],
    labels: Sequence[str],
    groups: Mapping[str, int],
    out_path: Path | str,
    title: str,
    blocks: Mapping[str, Sequence[tuple[int, int]]] | None = None,
) -> None:
    """Write a PNG with the matrices side by side.

    Args:
        matrices: (S, S) in [-1, 1] by title; NaN is white, values below 0 look like 0. Cells show hundredths.
        labels: S names of the rows.
        groups: Numbers of consecutive rows that form a group, by name; lines separate them.
        out_path: The file; its folder is created.
        title: Title of the figure.
        blocks: Runs of rows (start, stop) to outline, by title of the matrix.

    Rows are 34 pixels high, or 18 without numbers if there are many of them.
    """
    side = 320 + (34 if len(labels) <= _MAX_ROWS_WITH_NUMBERS else 18) * len(labels)
    figure = new_figure(side * len(matrices), side + 80, dpi=100)
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    for number, (axis, (name, matrix)) in enumerate(zip(axes, matrices.items(), strict=True)):
        image = axis.imshow(matrix, vmin=0, vmax=1, cmap="magma")
        axis.set_title(name, fontsize=10, parse_math=False, pad=24)
        axis.set_xticks(range(len(labels)), labels, rotation=90, fontsize=8, parse_math=False)
        axis.set_yticks(range(len(labels)), labels if number == 0 else [], fontsize=8, parse_math=False)
        axis.tick_params(length=0)
        _separate(axis, groups)
        for start, stop in (blocks or {}).get(name, ()):
            _outline(axis, start, stop)
        if len(labels) <= _MAX_ROWS_WITH_NUMBERS:
            _write_numbers(axis, matrix)
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.tight_layout(rect=(0, 0, 0.94, 1))
    bar = figure.add_axes((0.95, 0.25, 0.012, 0.5))
    figure.colorbar(image, cax=bar).ax.tick_params(labelsize=8)
    save_figure(figure, out_path)


def _separate(axis: Any, groups: Mapping[str, int]) -> None:
    """Draw lines between groups, and their names at the top."""
    begin = 0
    for name, count in groups.items():
        if begin:
            axis.axhline(begin - 0.5, color="white", linewidth=2)
            axis.axvline(begin - 0.5, color="white", linewidth=2)
        middle = begin + (count - 1) / 2
        axis.text(middle, -0.8, name, ha="center", va="bottom", fontsize=9, parse_math=False)
        begin += count


def _outline(axis: Any, start: int, stop: int) -> None:
    from matplotlib.patches import Rectangle

    length = stop - start
    corner = (start - 0.5, start - 0.5)
    axis.add_patch(Rectangle(corner, length, length, fill=False, edgecolor="#3ddc84", linewidth=2, zorder=3))


def _write_numbers(axis: Any, matrix: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        if value == value:
            color = "black" if value > 0.6 else "white"
            axis.text(column, row, str(round(100 * value)), ha="center", va="center", fontsize=7, color=color)


def draw_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    out_path: Path | str,
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    baseline: str = "",
) -> None:
    """Write a PNG of 900 x 560 pixels with a line for each curve, in a band of one standard deviation.

    Args:
        curves: x, mean and standard deviation of y by name.
        out_path: The file; its folder is created.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
        title: Title of the figure.
        baseline: Name of a curve that is drawn in black and dashed.
    """
    figure = new_figure(900, 560, dpi=100)
    axes = figure.add_axes((0.09, 0.11, 0.88, 0.8))
    for name, (x, mean, deviation) in curves.items():
        style = {"color": "black", "linestyle": "--"} if name == baseline else {}
        (line,) = axes.plot(x, mean, marker="o", markersize=3, label=name, **style)
        low, high = np.subtract(mean, deviation), np.add(mean, deviation)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    save_figure(figure, out_path)
