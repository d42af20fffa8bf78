"""HTML page and JSON file of a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from avssl.core.manifest import Manifest
from avssl.core.whole_file import write_text
from avssl.data.splits import Recordings
from avssl.downstream.finetuning.report.calibration import (
    calibration_note,
    calibration_rows,
    draw_reliability,
    unknown_note,
    unknown_rows,
)
from avssl.downstream.finetuning.report.clip_scores import ClipScores, find_rows
from avssl.downstream.finetuning.report.confusion import NAMED_CLASSES, draw_confusion
from avssl.downstream.finetuning.report.numbers import report_numbers
from avssl.downstream.finetuning.report.worst_clips import contact_sheets, worst_clips
from avssl.evaluation.reliability import Reliability
from avssl.reports.html_page import encode_figure, write_page
from avssl.reports.text_table import percent

_WORST = 12


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
    calibration: Mapping[str, Any] | None = None,
    reliability: Mapping[str, Reliability] | None = None,
    unknown: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``report.html`` and the same numbers as ``report.json``.

    The report has the headline numbers beside chance and the largest class, the confusion matrix, each class
    with its interval, and a few frames of the clips with the highest loss.

    Args:
        folder: Output directory, created if missing.
        classes: K names.
        scores: (N, K) probabilities of N clips: softmax (averaged over windows), or sigmoid for ``multi_label``.
        labels: (N,) true classes as positions in ``classes``; (N, K) bool for ``multi_label``.
        ids: N ids of rows of ``manifest``.
        manifest: Locates the files of the clips.
        numbers: Further numbers of the run by name, such as seed, epochs and minutes.
        multi_label: Clips may have several classes; then classes have average precisions, and there is
            no confusion matrix.
        calibration: Calibration of the probabilities, as in ``results.json``.
        reliability: Reliability of the probabilities to draw, by name.
        unknown: How well unknown videos are told, as in ``results.json``.

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
        **report_numbers(clips, Recordings(manifest).groups[rows]),
        **({"calibration": dict(calibration)} if calibration else {}),
        **({"unknown": dict(unknown)} if unknown else {}),
        "worst": worst,
    }
    row_of_id = dict(zip(clips.ids, rows, strict=True))
    sheets = contact_sheets(worst, np.array([row_of_id[clip["id"]] for clip in worst]), manifest, folder)
    write_page(
        folder / "report.html",
        "classification.html",
        title=title,
        report=report,
        headline=_headline_rows(report),
        numbers=[(name, f"{v:.4g}" if isinstance(v, float) else v) for name, v in report["numbers"].items()],
        confusion=_confusion(report),
        confused_pairs=_confused_pairs(report),
        calibration=None if calibration is None else calibration_rows(calibration),
        calibration_note="" if calibration is None else calibration_note(calibration),
        reliability=None if reliability is None else encode_figure(draw_reliability(reliability)),
        unknown=None if unknown is None else unknown_rows(unknown),
        unknown_note="" if unknown is None else unknown_note(unknown),
        class_header=list(_MULTI_LABEL_CELLS if multi_label else _CELLS),
        class_rows=_class_rows(report, multi_label),
        worst=sheets,
    )
    write_text(folder / "report.json", json.dumps(report, allow_nan=False) + "\n")
    return folder / "report.html"


def _headline_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for row in report["headline"]:
        interval = " to ".join(map(percent, row.get("interval", ())))
        largest = percent(row.get("largest_class"))
        rows.append((row["measure"], percent(row["value"]), interval, percent(row["chance"]), largest))
    return rows


def _confusion(report: dict[str, Any]) -> bytes | None:
    if "confusion" not in report:
        return None
    return encode_figure(draw_confusion(np.array(report["confusion"]), [row["name"] for row in report["classes"]]))


def _confused_pairs(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return table rows if the matrix is too large to show class names."""
    pairs = report.get("most_confused", []) if len(report["classes"]) > NAMED_CLASSES else []
    return [(pair["true"], pair["predicted"], f"{pair['n']} of {pair['of']}") for pair in pairs]


def _class_rows(report: dict[str, Any], multi_label: bool) -> list[list[object]]:
    value = "average_precision" if multi_label else "f1"
    # Classes without clips have no value and come last.
    rows = sorted(report["classes"], key=lambda row: (row["n"] == 0, row[value] is None, row[value] or 0.0))
    return [[cell(row) for cell in (_MULTI_LABEL_CELLS if multi_label else _CELLS).values()] for row in rows]


_CELLS: dict[str, Callable[[dict[str, Any]], object]] = {
    "class": lambda row: row["name"],
    "n": lambda row: row["n"],
    "recall": lambda row: percent(row["recall"]),
    "95 % interval": lambda row: " to ".join(map(percent, row["interval"])) if row["n"] else "",
    "precision": lambda row: percent(row["precision"]),
    "F1": lambda row: percent(row["f1"]),
}
_MULTI_LABEL_CELLS: dict[str, Callable[[dict[str, Any]], object]] = {
    "class": lambda row: row["name"],
    "n": lambda row: row["n"],
    "average precision": lambda row: percent(row["average_precision"]),
    "chance": lambda row: percent(row["chance"]),
}
