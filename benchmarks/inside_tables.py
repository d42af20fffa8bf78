"""Markdown tables and the picture of the measurements of ``inside.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avssl.evaluation import mean_and_deviation
from avssl.reports.plots import draw_similarities

Row = dict[str, Any]


def tables(rows: Sequence[Row], folder: Path) -> str:
    """Return the tables of all parts that were measured, and draw the similarity of blocks into ``folder``."""
    shown: list[str] = []
    for part, table in {"head": head_table, "blocks": blocks_table, "losses": losses_table}.items():
        own = [row for row in rows if row["part"] == part]
        if own:
            shown.append(table(own))
            if part == "blocks":
                draw(own, folder)
    return "\n\n".join(shown) or "no row yet"


def head_table(rows: Sequence[Row]) -> str:
    """Return the accuracy of linear probes by depth of the head and probed layer, mean of video and audio."""
    layers = ["encoder", "head.1", "head.2", "head.3", "head"]
    lines = [
        f"| layers of the head | seeds | label | {' | '.join(layers[:-1])} | embedding | R@10 |",
        f"| --- | ---: | --- |{' ---: |' * (len(layers) + 1)}",
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        for label in ("object", "action"):
            cells = [
                _spread([row["probes"][layer][label] for row in own]) if layer in own[0]["probes"] else ""
                for layer in layers
            ]
            lines.append(f"| {name} | {len(own)} | {label} | {' | '.join(cells)} | {_of(own, 'R@10')} |")
    first = rows[0]
    shuffled = max(row["R@10_shuffled"] for row in rows)
    lines.append(_counts(first) + f" R@10: chance {first['R@10_chance']:.3f}, shuffled audio at most {shuffled:.3f}.")
    return "\n".join(lines)


def blocks_table(rows: Sequence[Row]) -> str:
    """Return the found blocks of each model, and the mean effect of removing a block inside and outside of them."""
    lines = [
        "| video encoder | seed | block structure | 20 neighbors, object | R@10 | mean change inside | outside |",
        "| --- | ---: | --- | ---: | ---: | --- | --- |",
    ]
    for row in rows:
        names = row["names"]
        found = "; ".join(f"{names[start]} to {names[stop - 1]}" for start, stop in row["found"]) or "none"
        changes = [_change(row, inside) for inside in (True, False)]
        numbers = f"{row['knn']:.3f} | {row['R@10']:.3f}"
        lines.append(f"| {row['name']} | {row['seed']} | {found} | {numbers} | {' | '.join(changes)} |")
    lines.append(
        _counts(rows[0]) + " Changes are those of both scores when one residual block is removed, and the number of "
        f"blocks. R@10: chance {rows[0]['R@10_chance']:.3f}."
    )
    return "\n".join(lines)


def _change(row: Row, inside: bool) -> str:
    """Return the mean change of both scores over the removable blocks inside or outside of the found ones."""
    within = {row["names"][place] for start, stop in row["found"] for place in range(start, stop)}
    chosen = [scores for name, scores in row["removed"].items() if (name in within) == inside]
    if not chosen:
        return "–"
    changes = [np.mean([scores[key] - row[key] for scores in chosen]) for key in ("knn", "R@10")]
    return f"{changes[0]:+.3f}, {changes[1]:+.3f} ({len(chosen)})"


def losses_table(rows: Sequence[Row]) -> str:
    """Return class separation and transfer by loss."""
    columns = {
        "top1": "top 1, object",
        "separation": "R²",
        "linear_object": "linear, object",
        "linear_action": "linear, action (transfer)",
        "knn_action": "20 neighbors, action (transfer)",
    }
    lines = [f"| loss | seeds | {' | '.join(columns.values())} |", f"| --- | ---: |{' ---: |' * len(columns)}"]
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        lines.append(f"| {name} | {len(own)} | {' | '.join(_of(own, key) for key in columns)} |")
    trained = [row for row in rows if "top1" in row]
    if len({row["name"] for row in trained}) > 2:
        means = _means(trained, lambda row: (row["separation"], row["linear_action"]))
        lines.append(
            _counts(rows[0]) + f" Over the losses, R² and transfer correlate by {np.corrcoef(means.T)[0, 1]:+.2f}."
        )
    return "\n".join(lines)


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Write ``blocks.png``: the similarity of the blocks of each model of the first seed."""
    first = [row for row in rows if row["seed"] == rows[0]["seed"]]
    longest = max(len(row["names"]) for row in first)
    chosen = [row for row in first if len(row["names"]) == longest]
    draw_similarities(
        {row["name"]: np.array(row["cka"], dtype=float) for row in chosen},
        chosen[0]["names"],
        {},
        folder / "blocks.png",
        title="linear CKA of the blocks, in hundredths",
        blocks={row["name"]: [(start, stop) for start, stop in row["found"]] for row in chosen},
    )


def _means(rows: Sequence[Row], values: Callable[[Row], tuple[float, ...]]) -> np.ndarray:
    names = dict.fromkeys(row["name"] for row in rows)
    return np.array([np.mean([values(row) for row in rows if row["name"] == name], axis=0) for name in names])


def _counts(row: Row) -> str:
    return (
        f"\nn: fitted on {row['n_fit']} clips, scored on {row['n_test']}; {row['epochs']} epochs. Largest class: "
        f"object {row['object_chance']:.3f}, action {row['action_chance']:.3f}."
    )


def _of(rows: Sequence[Row], key: str) -> str:
    return _spread([row[key] for row in rows]) if key in rows[0] else "–"


def _spread(values: list[float]) -> str:
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.3f} ± {deviation:.3f}" if len(values) > 1 else f"{mean:.3f}"
