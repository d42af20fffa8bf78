"""HTML page of predictions: a player and a time line of classes for each file. It works from a disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from avssl.core.manifest import Manifest
from avssl.data import Failure
from avssl.downstream.classifying.logits import RowLogits
from avssl.downstream.classifying.tables import PredictionFormat, files_of, path_of, windows_of
from avssl.features.search_page import Moment, middle_frame, relative_link
from avssl.hub.trained_classifier import TrainedClassifier
from avssl.media import MediaError, MediaLimits
from avssl.reports.html_page import encode_picture, write_page

_COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#e08214", "#8073ac", "#35978f", "#8c510a")
"""Colors of the most frequent classes, told apart by people with color blindness too (after Paul Tol's "bright")."""
_OTHER = "#bbbbbb"


@dataclass(frozen=True)
class Span:
    """Neighboring windows of one file with the same label."""

    label: str
    start_seconds: float
    stop_seconds: float
    probability: float
    """Mean probability of the most probable class."""


def write_prediction_page(
    path: Path | str,
    parts: Iterable[RowLogits],
    manifest: Manifest,
    classifier: TrainedClassifier,
    kind: PredictionFormat,
    failures: Sequence[Failure],
    *,
    max_files: int,
    notes: Sequence[str] = (),
    limits: MediaLimits | None = None,
) -> None:
    """Write the page; links to files are relative to its folder, so both can be moved together.

    Args:
        path: The HTML file.
        parts: Predictions in the order of the rows.
        manifest: The rows.
        classifier: Makes the predictions.
        kind: Contents of the predictions.
        failures: Files that cannot be read.
        max_files: Largest number of files on the page, with a thumbnail of each.
        notes: Lines below the title.
        limits: Limits on the files.
    """
    folder = Path(path).resolve().parent
    files = list(islice(_files(parts, manifest, classifier, kind, folder, limits), max_files))
    counts = Counter(span.label for file in files for span in file["spans"])
    color_of = dict(zip((label for label, _ in counts.most_common(len(_COLORS))), _COLORS, strict=False))
    write_page(
        path,
        "predictions.html",
        title=f"Predictions of {classifier.source}",
        notes=notes,
        files=files,
        num_files=len(manifest) - len(failures),
        failures=failures,
        colors=color_of,
        other=_OTHER if len(counts) > len(_COLORS) else None,
        color=lambda label: color_of.get(label, _OTHER),
    )


def _files(
    parts: Iterable[RowLogits],
    manifest: Manifest,
    classifier: TrainedClassifier,
    kind: PredictionFormat,
    folder: Path,
    limits: MediaLimits | None,
) -> Iterator[dict[str, Any]]:
    """Yield the template variables of each file."""
    for part in parts:
        found, over_time = files_of(part, classifier, kind), windows_of(part, classifier, kind)
        highest = over_time.probabilities.max(axis=1) if over_time.rows else np.empty(0)
        window_rows = np.array(over_time.rows)
        for place, row in enumerate(found.rows):
            own = np.flatnonzero(window_rows == row)
            spans = merge_spans(over_time.spans[own], [over_time.labels[i] for i in own], highest[own])
            first, last = spans[0].start_seconds, spans[-1].stop_seconds
            file, link = manifest.file(row), relative_link(manifest.file(row), folder)
            yield {
                "name": path_of(manifest, row),
                "link": link,
                "label": found.labels[place],
                "top": found.top(place),
                "start": first,
                "length": max(last - first, 1e-3),
                "spans": spans,
                **_picture(Moment(file, "", first, last, ""), limits),
            }


def merge_spans(spans: np.ndarray, labels: Sequence[str], probabilities: np.ndarray) -> list[Span]:
    """Join neighboring windows with one label; overlapping windows are cut in the middle of their overlap.

    Args:
        spans: (M, 2) start and stop of windows, in ascending order.
        labels: M labels.
        probabilities: (M,) probabilities of the most probable class.
    """
    starts, stops = spans[:, 0].copy(), spans[:, 1].copy()
    overlap = stops[:-1] > starts[1:]
    middle = (stops[:-1] + starts[1:]) / 2
    stops[:-1][overlap], starts[1:][overlap] = middle[overlap], middle[overlap]
    merged = []
    for _, group in groupby(range(len(labels)), key=_run_numbers(starts, stops, labels).__getitem__):
        places = list(group)
        mean = float(np.mean(probabilities[places]))
        merged.append(Span(labels[places[0]], float(starts[places[0]]), float(stops[places[-1]]), mean))
    return merged


def _run_numbers(starts: np.ndarray, stops: np.ndarray, labels: Sequence[str]) -> list[int]:
    """Return a number for each window, equal for neighbors with one label and without a gap."""
    numbers = [0]
    for i in range(1, len(labels)):
        follows = labels[i] == labels[i - 1] and starts[i] - stops[i - 1] < 1e-6
        numbers.append(numbers[-1] + (not follows))
    return numbers


def _picture(moment: Moment, limits: MediaLimits | None) -> dict[str, Any]:
    try:
        frame = middle_frame(moment, limits)
    except MediaError as error:
        return {"thumbnail": None, "problem": error.found}
    return {"thumbnail": None if frame is None else encode_picture(frame, "jpeg"), "problem": None}
