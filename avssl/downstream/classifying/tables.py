"""Predictions as columns of a CSV and as a JSON document.

Dimensions: N files or windows, V crops, K classes, k of them shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from avssl.core.manifest import Manifest
from avssl.core.names import name_to_text
from avssl.data import Failure
from avssl.downstream.classifying.evaluation import Truth
from avssl.downstream.classifying.logits import RowLogits
from avssl.hub.class_prediction import top_classes
from avssl.hub.trained_classifier import TrainedClassifier


@dataclass(frozen=True)
class PredictionFormat:
    """Contents of the tables."""

    top_k: int
    """Classes of each file and window, the most probable first."""
    threshold: float
    """Lowest probability of a label of a multi-label classifier."""
    all_classes: bool
    """True to add the probability of every class."""


@dataclass(frozen=True, eq=False)
class _Predicted:
    """Predictions of N files or windows."""

    rows: list[int]
    spans: np.ndarray
    """(N, 2) start and stop in seconds."""
    probabilities: np.ndarray
    """(N, K)."""
    is_unknown: np.ndarray
    labels: list[str]
    classes: Sequence[str]
    top_k: int

    @classmethod
    def of(
        cls,
        classifier: TrainedClassifier,
        rows: np.ndarray,
        spans: np.ndarray,
        logits: np.ndarray,
        kind: PredictionFormat,
    ) -> _Predicted:
        probabilities = classifier.probabilities(logits) if len(rows) else np.empty((0, len(classifier.classes)))
        is_unknown = classifier.is_unknown(logits) if len(rows) else np.empty(0, dtype=bool)
        labels = classifier.labels(probabilities, is_unknown, kind.threshold)
        return cls(rows.tolist(), spans, probabilities, is_unknown, labels, classifier.classes, kind.top_k)

    @cached_property
    def order(self) -> np.ndarray:
        return top_classes(self.probabilities, self.top_k)

    def top(self, place: int) -> list[dict[str, Any]]:
        return [
            {"class": self.classes[number], "probability": float(self.probabilities[place, number])}
            for number in self.order[place].tolist()
        ]


def files_of(part: RowLogits, classifier: TrainedClassifier, kind: PredictionFormat) -> _Predicted:
    """Return the predictions of whole files, which span their clips."""
    spans = np.stack([part.clip_spans[..., 0].min(axis=1), part.clip_spans[..., 1].max(axis=1)], axis=1)
    return _Predicted.of(classifier, part.rows, spans, part.logits, kind)


def windows_of(part: RowLogits, classifier: TrainedClassifier, kind: PredictionFormat) -> _Predicted:
    """Return the predictions over time, or those of the clips of each file if there are none."""
    over_time = (part.window_rows, part.window_spans, part.window_logits)
    return _Predicted.of(classifier, *(over_time if len(part.window_rows) else part.clips_over_time()), kind)


def path_of(manifest: Manifest, row: int) -> str:
    """Return the path of a row's file from the working folder, or absolute, as text of a table."""
    return name_to_text(os.path.normpath(manifest.file(row)))


def file_table(
    part: RowLogits, manifest: Manifest, classifier: TrainedClassifier, kind: PredictionFormat, truth: Truth
) -> pa.Table:
    """Return a row for each file, with its classes and, if the manifest has labels, whether they are correct."""
    found = files_of(part, classifier, kind)
    columns = _columns(found, manifest, kind)
    if truth:
        outcomes = [truth.outcome(row, label) for row, label in zip(found.rows, found.labels, strict=True)]
        columns["label"] = pa.array([truth.texts[row] for row in found.rows], pa.string())
        columns["correct"] = pa.array(outcomes, pa.string())
    return pa.table(columns)


def window_table(
    part: RowLogits, manifest: Manifest, classifier: TrainedClassifier, kind: PredictionFormat
) -> pa.Table:
    """Return a row for each window over time."""
    over_time = _Predicted.of(classifier, part.window_rows, part.window_spans, part.window_logits, kind)
    return pa.table(_columns(over_time, manifest, kind))


def _columns(found: _Predicted, manifest: Manifest, kind: PredictionFormat) -> dict[str, pa.Array]:
    columns = {
        "id": pa.array([str(manifest.value(row, "id")) for row in found.rows], pa.string()),
        "path": pa.array([path_of(manifest, row) for row in found.rows], pa.string()),
        "start_seconds": pa.array(found.spans[:, 0], pa.float64()),
        "stop_seconds": pa.array(found.spans[:, 1], pa.float64()),
        "predicted": pa.array(found.labels, pa.string()),
        "unknown": pa.array(found.is_unknown, pa.bool_()),
    }
    for place in range(found.order.shape[1]):
        chosen = found.order[:, place]
        columns[f"class_{place + 1}"] = pa.array([found.classes[number] for number in chosen.tolist()], pa.string())
        columns[f"probability_{place + 1}"] = pa.array(
            np.take_along_axis(found.probabilities, chosen[:, None], axis=1)[:, 0], pa.float64()
        )
    if kind.all_classes:
        for number, name in enumerate(found.classes):
            columns[f"p({name})"] = pa.array(found.probabilities[:, number], pa.float64())
    return columns


def as_document(
    parts: Iterable[RowLogits],
    manifest: Manifest,
    classifier: TrainedClassifier,
    kind: PredictionFormat,
    truth: Truth,
    failures: Sequence[Failure],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Return everything as plain values for JSON; files that cannot be read have ``failure`` in place of classes."""
    files: dict[int, dict[str, Any]] = {failure.row: {"failure": _reason(failure)} for failure in failures}
    for part in parts:
        found = files_of(part, classifier, kind)
        for place, row in enumerate(found.rows):
            files[row] = _entry(found, place, kind) | files.get(row, {})
            if truth and truth.texts[row]:
                files[row] |= {"label": truth.texts[row], "correct": truth.outcome(row, found.labels[place])}
        if len(part.window_rows):
            over_time = windows_of(part, classifier, kind)
            for place, row in enumerate(over_time.rows):
                files[row].setdefault("windows", []).append(_entry(over_time, place, kind))
    named = [
        {"id": str(manifest.value(row, "id")), "path": path_of(manifest, row), **files[row]} for row in sorted(files)
    ]
    return {
        "classifier": {
            "source": classifier.source,
            "weights": classifier.weights_hash(),
            "inputs": classifier.model.inputs,
            "multi_label": classifier.config.labels.multi_label,
            "clips_per_file": classifier.config.test.windows_per_clip,
            "calibration": asdict(classifier.calibration),
            "classes": list(classifier.classes),
        },
        **about,
        "files": named,
    }


def _entry(found: _Predicted, place: int, kind: PredictionFormat) -> dict[str, Any]:
    start, stop = found.spans[place].tolist()
    entry: dict[str, Any] = {
        "start_seconds": start,
        "stop_seconds": stop,
        "predicted": found.labels[place],
        "unknown": bool(found.is_unknown[place]),
        "top": found.top(place),
    }
    return entry | ({"probabilities": found.probabilities[place].tolist()} if kind.all_classes else {})


def _reason(failure: Failure) -> dict[str, str]:
    return {"stream": failure.stream, "reason": failure.reason, "message": failure.message}
