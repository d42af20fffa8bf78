"""Markdown tables and the figure of the measurements of ``inside.py``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avssl.evaluation import deletion_effects, find_blocks, mean_and_deviation
from avssl.reports.plots import draw_similarities

Row = dict[str, Any]

THRESHOLDS = (0.9, 0.95)
"""Least CKA of any two blocks of a block structure; the first is that of ``avssl cka``."""


def tables(rows: Sequence[Row], folder: Path) -> str:
    """Return the tables of all parts that were measured, and draw the similarity of blocks into ``folder``."""
    shown: list[str] = []
    for part, table in {"blocks": blocks_table, "losses": losses_table, "head": head_table}.items():
        own = [row for row in rows if row["part"] == part]
        if own:
            shown.append(table(own))
            if part == "blocks":
                draw(own, folder)
    return "\n\n".join(shown) or "no row yet"


def blocks_table(rows: Sequence[Row]) -> str:
    """Return the found blocks of each model, and the mean effect of deleting a block inside and outside of them."""
    lines = [
        "| video encoder | seed | score, whole | least CKA | block structure | change inside | change outside |",
        "| --- | ---: | --- | ---: | --- | --- | --- |",
    ]
    for row in rows:
        whole = ", ".join(f"{name} {value:.3f}" for name, value in row["whole"].items() if name != "neighbors")
        for threshold in THRESHOLDS:
            found, (inside, outside) = _effects(row, threshold)
            lines.append(
                f"| {row['name']} | {row['seed']} | {whole or '–'} | {threshold:g} | {found} | {inside} | {outside} |"
            )
    first = rows[0]
    lines.append(
        _counts(first) + " Changes: mean over the deletions of one residual block each, and their number; first of the "
        "score, then of the share of a clip's ten nearest clips that stay (1 with the whole network, by chance "
        f"{first['neighbors_chance']:.3f}). top1: action; R@10: between video and audio, chance "
        f"{first['R@10_chance']:.3f}."
    )
    return "\n".join(lines)


def _effects(row: Row, threshold: float) -> tuple[str, list[str]]:
    """Return the block structure of a model, and the changes inside and outside of it, as text."""
    names = row["names"]
    found = find_blocks(np.array(row["cka"], dtype=float), threshold)
    cells = []
    for effect in deletion_effects(names, found, row["whole"], row["deleted"]).values():
        changes = ", ".join(f"{value:+.3f}" for value in effect.change.values())
        cells.append(f"{changes} ({effect.num_blocks})" if effect.num_blocks else "–")
    return "; ".join(f"{names[start]} to {names[stop - 1]}" for start, stop in found) or "none", cells


def losses_table(rows: Sequence[Row]) -> str:
    """Return class separation and transfer by source label and loss."""
    columns = {
        "top1": "top 1, source",
        "separation": "R² of the source",
        "linear_source": "linear, source",
        "linear_transfer": "linear, transfer",
        "knn_transfer": "20 neighbors, transfer",
    }
    lines = [
        f"| source and transfer | loss | seeds | {' | '.join(columns.values())} |",
        f"| --- | --- | ---: |{' ---: |' * len(columns)}",
    ]
    sums = _counts(rows[0])
    for source, transfer in (("object", "action"), ("action", "object")):
        own = [row for row in rows if row["name"].startswith(f"{source}, ")]
        for name in dict.fromkeys(row["name"] for row in own):
            same = [row for row in own if row["name"] == name]
            cells = " | ".join(_of(same, key) for key in columns)
            lines.append(f"| {source} → {transfer} | {name.partition(', ')[2]} | {len(same)} | {cells} |")
        trained = [row for row in own if "top1" in row]
        if len({row["name"] for row in trained}) > 2:
            means = _means(trained, lambda row: (row["separation"], row["linear_transfer"]))
            sums += (
                f" {source} → {transfer}: over the {len(means)} losses, R² and linear transfer correlate by "
                f"{np.corrcoef(means.T)[0, 1]:+.2f}."
            )
    return "\n".join([*lines, sums])


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
    return "\n".join(lines) + "\n\n" + finetuning_table([row for row in rows if "finetuned" in row])


def finetuning_table(rows: Sequence[Row]) -> str:
    """Return the accuracy after fine-tuning from the encoder and from layers of the head."""
    lines = [
        "| fine-tuned | seeds | label | from the encoder | from head.1 | from head.2 |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row["finetuned"] for row in rows if row["name"] == name]
        for label in ("object", "action"):
            cells = [_spread([found[layers][label] for found in own]) for layers in own[0]]
            lines.append(f"| {name} | {len(own)} | {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Write ``inside_*.png``: CKA beside SVCCA of the blocks of the deepest models of the first seed."""
    first = [row for row in rows if row["seed"] == rows[0]["seed"]]
    longest = max(len(row["names"]) for row in first)
    for row in first:
        if len(row["names"]) == longest:
            cka, svcca = (np.array(row[name], dtype=float) for name in ("cka", "svcca"))
            draw_similarities(
                {"linear CKA": cka, "SVCCA": svcca},
                row["names"],
                {},
                folder / f"inside_{re.sub(r'[^a-z]+', '_', row['name'].partition(', ')[2].lower())}.png",
                title=f"{row['name']}, in hundredths; outlined: block structure, CKA of at least {THRESHOLDS[0]:g}",
                blocks={"linear CKA": find_blocks(cka, THRESHOLDS[0])},
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
