"""The page and its numbers."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from avssl.core.manifest import Manifest
from avssl.core.whole_file import write_text
from avssl.downstream.finetuning.report.confusion import NAMED_CLASSES, draw_confusion
from avssl.downstream.finetuning.report.numbers import measure
from avssl.downstream.finetuning.report.scored import rows_of, scored
from avssl.downstream.finetuning.report.worst import show_clips, worst_clips
from avssl.reports.html_page import encode_figure, image, table, write_page

_WORST = 12
_STYLE = ".clip { width: 19rem; } .clip img { width: 100%; }"


def write_report(
    folder: Path | str,
    *,
    classes: Sequence[str],
    scores: ArrayLike,
    labels: ArrayLike,
    ids: Sequence[str],
    manifest: Manifest,
    title: str,
    numbers: Mapping[str, float | int | str],
    multi_label: bool = False,
) -> Path:
    """Writes ``report.html`` and ``report.json``, the same numbers as plain values.

    Headline numbers stand beside chance and the largest class; then come the confusion matrix, every
    class with its interval, and a few frames of the clips with the highest loss. Clips whose file
    cannot be read are said to be so.

    Args:
        folder: Where to; made when missing.
        classes: K names.
        scores: (N, K) probabilities of N clips: softmax (of clips, averaged), or sigmoid for
            ``multi_label``.
        labels: (N,) true classes as positions in ``classes``; (N, K) bool for ``multi_label``.
        ids: N ids of rows of ``manifest``.
        manifest: Where the clips' files are.
        title: What was measured, in a line.
        numbers: What else is to be said of the run, by name: protocol, seed, epochs, minutes.
        multi_label: Whether clips have several classes; then classes have average precisions, and there
            is no confusion matrix.

    Returns:
        The page.

    Raises:
        ValueError: If shapes do not fit, scores are no probabilities, or a label is no class.
        ManifestError: If an id is not in the manifest.
    """
    clips, folder = scored(classes, scores, labels, ids, multi_label), Path(folder)
    rows = rows_of(clips.ids, manifest)
    worst = worst_clips(clips, _WORST)
    found = {
        "title": title,
        "n": len(clips.ids),
        "num_classes": len(clips.classes),
        "clip_list": manifest.select(rows).hash(),
        "numbers": dict(numbers),
        **measure(clips),
        "worst": worst,
    }
    place = dict(zip(clips.ids, rows, strict=True))
    sheet = show_clips(worst, np.array([place[clip["id"]] for clip in worst]), manifest, folder)
    sections = [_head(found), _confusion(found), _classes(found, multi_label), _worst(sheet)]
    write_page(folder / "report.html", title, sections, _STYLE)
    write_text(folder / "report.json", json.dumps(found, allow_nan=False) + "\n")
    return folder / "report.html"


def _head(found: dict[str, Any]) -> str:
    body = []
    for row in found["headline"]:
        interval = " to ".join(map(_percent, row.get("interval", ())))
        largest = _percent(row.get("largest_class"))
        body.append((row["measure"], _percent(row["value"]), interval, _percent(row["chance"]), largest))
    header = ("in %", "this classifier", "95 % interval", "chance", "largest class")
    said = table(("", ""), [(name, _number(value)) for name, value in found["numbers"].items()])
    return (
        f"<h1>{html.escape(found['title'])}</h1><p>{found['n']} clips of {found['num_classes']} classes; "
        f"clip list {found['clip_list']}.</p>{table(header, body, found['headline'][0]['measure'])}"
        f"{said if found['numbers'] else ''}"
    )


def _confusion(found: dict[str, Any]) -> str:
    if "confusion" not in found:
        return ""
    confusion, classes = np.array(found["confusion"]), [row["name"] for row in found["classes"]]
    picture = image(encode_figure(draw_confusion(confusion, classes)), "confusion matrix")
    pairs = ""
    if len(classes) > NAMED_CLASSES:
        body = [(pair["true"], pair["predicted"], f"{pair['n']} of {pair['of']}") for pair in found["most_confused"]]
        pairs = f"<h3>Most confused</h3>{table(('true', 'taken for', 'clips'), body)}"
    return f"<h2>Confusions</h2><p class='note'>Classes in their order.</p>{picture}{pairs}"


def _classes(found: dict[str, Any], multi_label: bool) -> str:
    value = "average_precision" if multi_label else "f1"
    # Classes without clips, which have no value, come last.
    rows = sorted(found["classes"], key=lambda row: (row["n"] == 0, row[value] is None, row[value] or 0.0))
    columns = _CELLS_OF_SEVERAL if multi_label else _CELLS
    body = [[cell(row) for cell in columns.values()] for row in rows]
    return f"<h2>Classes, the worst first</h2><p class='note'>In %.</p>{table(columns, body)}"


_CELLS: dict[str, Callable[[dict[str, Any]], object]] = {
    "class": lambda row: row["name"],
    "n": lambda row: row["n"],
    "recall": lambda row: _percent(row["recall"]),
    "95 % interval": lambda row: " to ".join(map(_percent, row["interval"])) if row["n"] else "",
    "precision": lambda row: _percent(row["precision"]),
    "F1": lambda row: _percent(row["f1"]),
}
_CELLS_OF_SEVERAL: dict[str, Callable[[dict[str, Any]], object]] = {
    "class": lambda row: row["name"],
    "n": lambda row: row["n"],
    "average precision": lambda row: _percent(row["average_precision"]),
    "chance": lambda row: _percent(row["chance"]),
}


def _worst(sheet: str) -> str:
    return (
        "<h2>Clips with the highest loss</h2><p class='note'>Frames from the middle of each third. Look whether the "
        f"classifier or the label is at fault.</p>{sheet}"
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _number(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
