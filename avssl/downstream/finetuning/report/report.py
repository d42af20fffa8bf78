"""HTML page and JSON file of a report."""

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
from avssl.downstream.finetuning.report.clip_scores import ClipScores, find_rows
from avssl.downstream.finetuning.report.confusion import NAMED_CLASSES, draw_confusion
from avssl.downstream.finetuning.report.numbers import report_numbers
from avssl.downstream.finetuning.report.worst_clips import contact_sheets, worst_clips
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
    """Write ``report.html`` and the same numbers as ``report.json``.

    The report has the headline numbers beside chance and the largest class, the confusion matrix, each class
    with its interval, and a few frames of the clips with the highest loss.

    Args:
        folder: Output directory, created if missing.
        classes: K names.
        scores: (N, K) probabilities of N clips: softmax (averaged over windows), or sigmoid for
            ``multi_label``.
        labels: (N,) true classes as positions in ``classes``; (N, K) bool for ``multi_label``.
        ids: N ids of rows of ``manifest``.
        manifest: Locates the files of the clips.
        title: Title of the page.
        numbers: Further numbers of the run by name, such as seed, epochs and minutes.
        multi_label: Clips may have several classes; then classes have average precisions, and there is
            no confusion matrix.

    Returns:
        Path of the page.

    Raises:
        ValueError: If shapes do not match, scores are not probabilities, or a label is not a class.
        ManifestError: If an id is not in the manifest.
    """
    clips, folder = ClipScores.from_arrays(classes, scores, labels, ids, multi_label), Path(folder)
    rows = find_rows(manifest, clips.ids)
    worst = worst_clips(clips, _WORST)
    report = {
        "title": title,
        "n": len(clips.ids),
        "num_classes": len(clips.classes),
        "clip_list": manifest.select(rows).hash(),
        "numbers": dict(numbers),
        **report_numbers(clips),
        "worst": worst,
    }
    row_of_id = dict(zip(clips.ids, rows, strict=True))
    sheets = contact_sheets(worst, np.array([row_of_id[clip["id"]] for clip in worst]), manifest, folder)
    sections = [_head(report), _confusion(report), _classes(report, multi_label), _worst(sheets)]
    write_page(folder / "report.html", title, sections, _STYLE)
    write_text(folder / "report.json", json.dumps(report, allow_nan=False) + "\n")
    return folder / "report.html"


def _head(report: dict[str, Any]) -> str:
    body = []
    for row in report["headline"]:
        interval = " to ".join(map(_percent, row.get("interval", ())))
        largest = _percent(row.get("largest_class"))
        body.append((row["measure"], _percent(row["value"]), interval, _percent(row["chance"]), largest))
    header = ("in %", "this classifier", "95 % interval", "chance", "largest class")
    numbers = table(("", ""), [(name, _number(value)) for name, value in report["numbers"].items()])
    return (
        f"<h1>{html.escape(report['title'])}</h1><p>{report['n']} clips of {report['num_classes']} classes; "
        f"clip list {report['clip_list']}.</p>{table(header, body, report['headline'][0]['measure'])}"
        f"{numbers if report['numbers'] else ''}"
    )


def _confusion(report: dict[str, Any]) -> str:
    if "confusion" not in report:
        return ""
    confusion, classes = np.array(report["confusion"]), [row["name"] for row in report["classes"]]
    matrix = image(encode_figure(draw_confusion(confusion, classes)), "confusion matrix")
    pairs = ""
    if len(classes) > NAMED_CLASSES:
        body = [(pair["true"], pair["predicted"], f"{pair['n']} of {pair['of']}") for pair in report["most_confused"]]
        pairs = f"<h3>Most confused</h3>{table(('true', 'predicted', 'clips'), body)}"
    return f"<h2>Confusion matrix</h2>{matrix}{pairs}"


def _classes(report: dict[str, Any], multi_label: bool) -> str:
    value = "average_precision" if multi_label else "f1"
    # Classes without clips have no value and come last.
    rows = sorted(report["classes"], key=lambda row: (row["n"] == 0, row[value] is None, row[value] or 0.0))
    columns = _MULTI_LABEL_CELLS if multi_label else _CELLS
    body = [[cell(row) for cell in columns.values()] for row in rows]
    return f"<h2>Classes, worst first</h2><p class='note'>In %.</p>{table(columns, body)}"


_CELLS: dict[str, Callable[[dict[str, Any]], object]] = {
    "class": lambda row: row["name"],
    "n": lambda row: row["n"],
    "recall": lambda row: _percent(row["recall"]),
    "95 % interval": lambda row: " to ".join(map(_percent, row["interval"])) if row["n"] else "",
    "precision": lambda row: _percent(row["precision"]),
    "F1": lambda row: _percent(row["f1"]),
}
_MULTI_LABEL_CELLS: dict[str, Callable[[dict[str, Any]], object]] = {
    "class": lambda row: row["name"],
    "n": lambda row: row["n"],
    "average precision": lambda row: _percent(row["average_precision"]),
    "chance": lambda row: _percent(row["chance"]),
}


def _worst(sheets: str) -> str:
    return (
        "<h2>Clips with the highest loss</h2><p class='note'>Frames from the middle of each third. Check whether "
        f"the classifier or the label is wrong.</p>{sheets}"
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _number(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
