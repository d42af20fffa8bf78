"""Markdown tables of `benchmarks/localization.py`, every number with its baselines."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Rows = list[dict[str, Any]]

COLUMNS = {
    "pointing": "pointing",
    "ciou": "cIoU",
    "auc": "AUC",
    "iiou": "IIoU",
    "ap_off_screen": "AP, off screen",
    "ap_silent": "AP, silent",
    "slavc_ap": "AP (SLAVC)",
    "drop_swapped": "drop, other audio",
    "drop_silent": "drop, silence",
}
BASELINES = {
    "object_": "random object of the scene",
    "center_": "center blob",
    "mean_": "mean of other clips' truths",
    "random_": "random map",
    "whole_": "whole frame",
}
TWO = {
    "two_each": "each found",
    "two_both": "both found",
    "two_now": "sounding now",
    "two_now_other": "the other",
}


def tables(rows: Rows) -> str:
    """Return all tables of the measurements so far."""
    if not rows:
        return "nothing is measured yet"
    parts = [methods_table(rows), listening_table(rows), two_table(rows), unseen_table(rows)]
    return "\n\n".join(part for part in parts if part)


def methods_table(rows: Rows) -> str:
    """Return the table of methods, then of maps that ignore the audio."""
    lines = [
        f"| method | epochs | seeds | {' | '.join(COLUMNS.values())} |",
        f"| --- | ---: | ---: |{' ---: |' * len(COLUMNS)}",
    ]
    for name, own in by_method(rows).items():
        for row in own:
            row |= {f"drop_{sound}": row["pointing"] - row[f"{sound}_pointing"] for sound in ("swapped", "silent")}
        cells = [spread([row[key] for row in own]) for key in COLUMNS]
        lines.append(f"| {name} | {own[0]['epochs']} | {len(own)} | {' | '.join(cells)} |")
    others = [row for row in rows if row["method"] == "baselines"]
    lines += [baseline_line(others[0], prefix, title) for prefix, title in BASELINES.items() if others]
    if others:
        chance = [f"{others[0][f'chance_{key}']:.3f}" if f"chance_{key}" in others[0] else "" for key in COLUMNS]
        lines.append(f"| random confidence | | | {' | '.join(chance)} |")
        lines += ["", counts(rows)]
    return "\n".join(lines)


def baseline_line(row: dict[str, Any], prefix: str, title: str) -> str:
    """Return the line of a map that ignores the audio: no audio changes it, and it has no confidence."""
    cells = [f"{row[prefix + key]:.3f}" if prefix + key in row else "" for key in COLUMNS]
    cells[-2:] = ["0", "0"]
    return f"| {title} | | | {' | '.join(cells)} |"


def counts(rows: Rows) -> str:
    """Return n of every column."""
    trained = next((row for row in rows if "n_two" in row), None)
    base = next(row for row in rows if row["method"] == "baselines")
    text = (
        f"n: pointing, cIoU, AUC {base['n']} clips of two or three objects; IIoU {base['n_pairs']} pairs; AP against "
        f"{base['n_off_screen']} clips with a sound from off screen and {base['n_silent']} silent ones."
    )
    return text if trained is None else f"{text} Two sounds: {trained['n_two']} events."


def listening_table(rows: Rows) -> str:
    """Return the table of the same frames with other audio, or without any."""
    sounds = {
        "": "own audio",
        "swapped_": "another clip's",
        "silent_": "silence",
        "noise_": "noise",
        "image_": "no audio",
    }
    lines = [
        f"| pointing (cIoU) with | {' | '.join(sounds.values())} |",
        f"| --- |{' ---: |' * len(sounds)}",
    ]
    for name, own in by_method(rows).items():
        cells = [
            f"{statistics.mean(row[f'{prefix}pointing'] for row in own):.3f} "
            f"({statistics.mean(row[f'{prefix}ciou'] for row in own):.3f})"
            for prefix in sounds
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def two_table(rows: Rows) -> str:
    """Return the table of clips with two sounding objects."""
    lines = [f"| two sounds | {' | '.join(TWO.values())} |", f"| --- |{' ---: |' * len(TWO)}"]
    for name, own in by_method(rows).items():
        lines.append(f"| {name} | {' | '.join(spread([row[key] for row in own]) for key in TWO)} |")
    if len(lines) == 2:
        return ""
    return "\n".join([*lines, "| random objects of the scene | 0.667 | 0.333 | 0.333 | 0.333 |"])


def unseen_table(rows: Rows) -> str:
    """Return the table of the long trainings on further unseen clips."""
    found: dict[str, Rows] = {}
    for row in rows:
        if "sizes" in row:
            found.setdefault(row["method"].removeprefix("unseen clips: "), []).append(row)
    if not found:
        return ""
    lines = ["| on unseen clips | frame size | smoothed | seeds | pointing | cIoU | IIoU |", f"| --- |{' ---: |' * 6}"]
    for name, own in found.items():
        for place, first in enumerate(own[0]["sizes"]):
            cells = [spread([row["sizes"][place][key] for row in own]) for key in ("pointing", "ciou", "iiou")]
            seen = f"{first['frame_size']} | {first['smoothed']} | {len(own)}"
            lines.append(f"| {name} | {seen} | {' | '.join(cells)} |")
    first = next(iter(found.values()))[0]["sizes"][0]
    return "\n".join([*lines, "", f"n = {first['n']} clips and {first['n_pairs']} pairs."])


def by_method(rows: Rows) -> dict[str, Rows]:
    """Return the rows of models by method, short trainings first and the untrained one last."""
    found: dict[str, Rows] = {}
    for row in sorted(rows, key=lambda row: row.get("epochs", 0)):
        if "pointing" in row:
            found.setdefault(row["method"], []).append(row)
    if "random-init" in found:
        found["random-init"] = found.pop("random-init")
    return found


def spread(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean
