"""Figure of a confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from avssl.reports.figures import new_figure

NAMED_CLASSES = 30
"""Maximum number of classes whose names are drawn; more would not be legible."""
_COUNTED_CLASSES = 16
_LETTERS = 24


def draw_confusion(confusion: np.ndarray, classes: list[str]) -> Any:
    """Draw (K, K) counts with a row for each true class; colors are fractions of the class."""
    from matplotlib.colors import PowerNorm

    total = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, total, out=np.zeros(confusion.shape), where=total > 0)
    named = len(classes) <= NAMED_CLASSES
    side = 250 + 34 * len(classes) if named else 700
    figure = new_figure(side + 90, side, dpi=100)
    axes = figure.add_subplot()
    # The square root makes one clip in fifty visible.
    drawn = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest")
    axes.set(xlabel="predicted class", ylabel="true class", xticks=[], yticks=[])
    if named:
        _draw_names(axes, classes)
    if len(classes) <= _COUNTED_CLASSES:
        _draw_counts(axes, confusion, shares)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7)
    bar.set_label("fraction of the true class")
    figure.tight_layout()
    return figure


def _draw_names(axes: Any, classes: list[str]) -> None:
    names = [name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…" for name in classes]
    ticks = range(len(names))
    # Dollar signs in class names must not start a formula.
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=9, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=9, parse_math=False)


def _draw_counts(axes: Any, confusion: np.ndarray, shares: np.ndarray) -> None:
    for row, column in np.argwhere(confusion):
        ink = "white" if shares[row, column] > 0.4 else "black"
        axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=ink, fontsize=8)
