"""The benchmark of VGGSounder for three classifiers: of audio, of video, and of both.

    >>> from avssl.integrations.vggsounder import benchmark, read_labels
    >>> files = {name: f"runs/{name}/folds/fold-split/predictions.npz" for name in ("a", "v", "av")}
    >>> benchmark(read_labels("vggsounder.csv"), files)["confusion"]

The labels and their modalities are in the PyPI package ``vggsounder``, as ``vggsounder/data/vggsounder.csv``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from avssl.core.data_files import read_arrays
from avssl.core.errors import InputError
from avssl.core.tables import MAX_TABLE_BYTES, parse_table
from avssl.core.user_files import read_bytes
from avssl.evaluation.vggsounder import Input, modality_confusion, top_k_scores

SUBSETS: dict[str, tuple[Input, tuple[str, ...]]] = {
    "a": ("a", ("A", "AV")),
    "v": ("v", ("V", "AV")),
    "av": ("av", ("AV",)),
    "a only": ("a", ("A",)),
    "v only": ("v", ("V",)),
}
"""Input of the classifier that each subset scores, and the modalities of the labels that count there."""

_COLUMNS = ("video_id", "label", "modality")

Labels = Mapping[str, Mapping[str, str]]
"""Modality, "A", "V" or "AV", of each label of each video, by their names."""


def read_labels(path: Path | str) -> dict[str, dict[str, str]]:
    """Read the official CSV: ``video_id``, ``label`` and ``modality``, a row for each label of a video.

    Raises:
        InputError: If a column is missing, or a modality is none of A, V and AV.
    """
    types = {name: pa.string() for name in _COLUMNS}
    rows = parse_table(read_bytes(path, MAX_TABLE_BYTES), str(path), types).to_pylist()
    missing = set(_COLUMNS) - set(rows[0] if rows else {})
    if missing:
        raise InputError(f"{path}: no column {', '.join(sorted(missing))}. It is no vggsounder.csv.")
    labels: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        if row["modality"] not in ("A", "V", "AV"):
            raise InputError(f"{path}: row {number} has modality {row['modality']!r}; it must be A, V or AV.")
        labels.setdefault(row["video_id"], {})[row["label"]] = row["modality"]
    return labels


def benchmark(labels: Labels, predictions: Mapping[Input, Path | str]) -> dict[str, Any]:
    """Score three classifiers on the clips that all of them predicted.

    Args:
        labels: From :func:`read_labels`.
        predictions: ``predictions.npz`` of ``avssl finetune`` for ``classifier.inputs`` audio (``"a"``), video
            (``"v"``) and both (``"av"``); ids are those of VGGSounder, with or without the ending of a file.

    Returns:
        ``"scores"``: those of :func:`~avssl.evaluation.vggsounder.top_k_scores` by subset, each with its number of
        clips ``n``; ``"confusion"``: :func:`~avssl.evaluation.vggsounder.modality_confusion`; ``"n"`` clips, and
        ``"missing"``, clips with labels that a classifier did not predict.

    Raises:
        InputError: If a classifier is missing, has other classes, lacks a class that a label names, or shares no clip
            with the labels.
    """
    absent = {"a", "v", "av"} - set(predictions)
    if absent:
        raise InputError(f"predictions of {', '.join(sorted(absent))} are missing: a, v and av are compared.")
    tables = {name: _read_scores(path) for name, path in predictions.items()}
    classes = tables["av"][0]
    for name, (found, _) in tables.items():
        if found != classes:
            raise InputError(f"{predictions[name]}: has other classes than {predictions['av']}.")
    unknown = {label for found in labels.values() for label in found} - set(classes)
    if unknown:
        raise InputError(
            f"{predictions['av']}: the classifier has no class {sorted(unknown)[0]!r} ({len(unknown)} are missing). It "
            "must be trained on the classes of VGGSound."
        )
    ids = [video for video in labels if all(video in rows for _, rows in tables.values())]
    if not ids:
        raise InputError(f"{predictions['av']}: no clip has an id of VGGSounder, such as {next(iter(labels))!r}.")
    scores = {name: np.stack([rows[video] for video in ids]) for name, (_, rows) in tables.items()}
    subsets: dict[str, dict[str, float]] = {}
    for subset, (name, modalities) in SUBSETS.items():
        targets = _targets(labels, ids, classes, modalities)
        kept = targets.any(axis=1)
        if kept.any():
            subsets[subset] = {"n": int(kept.sum())} | top_k_scores(scores[name][kept], targets[kept])
    confusion = modality_confusion(scores, _targets(labels, ids, classes, ("A", "V", "AV")))
    return {"scores": subsets, "confusion": confusion, "n": len(ids), "missing": len(labels) - len(ids)}


def _read_scores(path: Path | str) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the classes, sorted, and the scores of each video in their order."""
    arrays = read_arrays(path)
    missing = {"ids", "scores", "classes"} - set(arrays)
    if missing:
        raise InputError(f"{path}: holds no {', '.join(sorted(missing))}. Name the predictions.npz of avssl finetune.")
    order = np.argsort(arrays["classes"])
    names = (str(each).rpartition("/")[2].removesuffix(".mp4") for each in arrays["ids"])
    return arrays["classes"][order].tolist(), dict(zip(names, arrays["scores"][:, order], strict=True))


def _targets(labels: Labels, ids: list[str], classes: list[str], modalities: tuple[str, ...]) -> np.ndarray:
    """Return (N, K) bool: the labels of these modalities."""
    place = {name: i for i, name in enumerate(classes)}
    targets = np.zeros((len(ids), len(classes)), dtype=bool)
    for row, video in enumerate(ids):
        for label, modality in labels[video].items():
            targets[row, place[label]] |= modality in modalities
    return targets
