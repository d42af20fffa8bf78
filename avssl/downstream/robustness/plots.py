"""Figures of a robustness report: gaps between groups, and scores over the severity of corruptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avssl.downstream.robustness.tables import p_text
from avssl.reports.figures import new_figure
from avssl.reports.html_page import encode_figure

_COLORS = ("#3b6fb6", "#d08a1d", "#3d9a5b", "#b5463c", "#7a5bb0", "#2b9aa8", "#8a6d4b")
_MARKERS = "osD^vPX"
_LEGEND = 140
"""Width of the legend in pixels."""


def draw_group_gaps(columns: Mapping[str, dict[str, Any]]) -> bytes | None:
    """Draw each group's difference to all other clips with its 95 % interval; a row of panels for each column.

    Args:
        columns: Column -> :func:`avssl.downstream.robustness.score_groups`.

    Returns:
        A PNG; None if no column could be tested.
    """
    tested = {name: groups for name, groups in columns.items() if not groups["no_test"]}
    if not tested:
        return None
    heights = [90 + 24 * len(groups["groups"]) for groups in tested.values()]
    numbers = list(next(iter(tested.values()))["gap"])
    figure = new_figure(180 + 320 * len(numbers), sum(heights), dpi=100)
    panels = figure.subplots(len(tested), len(numbers), squeeze=False, sharey="row", height_ratios=heights)
    for row, (column, groups) in zip(panels, tested.items(), strict=True):
        for axes, number in zip(row, numbers, strict=True):
            test = groups["gap"][number]["test"]
            names = list(groups["groups"])
            for i, name in enumerate(names):
                low, high = test["rest_intervals"][name]
                color = _COLORS[3] if test["p_values"][name] <= 0.05 else "#555555"
                axes.plot([100 * low, 100 * high], [i, i], color=color, linewidth=2, solid_capstyle="round")
                axes.plot([100 * test["against_rest"][name]], [i], marker="o", color=color)
            axes.axvline(0, color="gray", linewidth=0.8)
            axes.set_yticks(range(len(names)), [f"{n} ({groups['groups'][n]['n']})" for n in names], parse_math=False)
            axes.tick_params(labelsize=8)
            axes.set_title(f"{column}: {number}; gap p {p_text(test['p_value'])}", fontsize=9, parse_math=False)
            axes.set_xlabel("difference to the rest, points", fontsize=8)
            axes.grid(axis="x", alpha=0.25)
        # The first group at the top; the panels of a row share the axis.
        row[0].set_ylim(len(names) - 0.5, -0.5)
    figure.tight_layout()
    return encode_figure(figure)


def draw_corruptions(rows: Sequence[dict[str, Any]], baselines: Mapping[str, Mapping[str, float]]) -> bytes:
    """Draw a panel for each number: its mean with its 95 % interval over the severity, a curve for each corruption.

    Args:
        rows: Rows of :func:`avssl.downstream.robustness.score_corruptions`.
        baselines: Name -> number -> value; chance is a dashed line, the others are dotted.

    Returns:
        A PNG.
    """
    numbers = list(dict.fromkeys(row["number"] for row in rows if row["severity"]))
    names = list(dict.fromkeys(row["corruption"] for row in rows if row["severity"]))
    width = 60 + 380 * len(numbers)
    figure = new_figure(width + _LEGEND, 400, dpi=100)
    for axes, number in zip(figure.subplots(1, len(numbers), squeeze=False)[0], numbers, strict=True):
        own = [row for row in rows if row["number"] == number]
        for i, name in enumerate(names):
            points = [row for row in own if row["corruption"] == name or not row["severity"]]
            if len(points) < 2:
                continue
            at = [row["severity"] for row in points]
            style = {"color": _COLORS[i % len(_COLORS)], "marker": _MARKERS[i % len(_MARKERS)]}
            axes.plot(at, [100 * row["mean"] for row in points], label=name.replace("_", " "), markersize=4, **style)
            low, high = ([100 * row["interval"][end] for row in points] for end in (0, 1))
            axes.fill_between(at, low, high, color=style["color"], alpha=0.08, linewidth=0)
        for name, values in baselines.items():
            style = {"color": "black", "linestyle": "--"} if name == "chance" else {"color": "gray", "linestyle": ":"}
            axes.axhline(100 * values[number], linewidth=1, label=name, **style)
        axes.set_title(number, fontsize=10, parse_math=False)
        axes.set_xlabel("severity (0: clean)")
        axes.set_xticks(sorted({row["severity"] for row in own}))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
    drawn = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(drawn.values(), drawn, frameon=False, fontsize=8, loc="center right")
    figure.tight_layout(rect=(0, 0, width / (width + _LEGEND), 1))
    return encode_figure(figure)
