"""Numbers of a report as plain values for JSON; NaN becomes null."""

from __future__ import annotations

from typing import Any

import numpy as np

from avssl.downstream.finetuning.report.clip_scores import ClipScores
from avssl.evaluation import (
    class_scores,
    confused_pairs,
    confusion_matrix,
    mean_average_precision,
    mean_interval,
    top_k_accuracy,
)

_PAIRS = 20
"""Maximum number of pairs of confused classes in the report."""


def report_numbers(clips: ClipScores, recordings: np.ndarray) -> dict[str, Any]:
    """Compute ``headline``, ``classes``, and for single labels the confusions.

    A row of ``headline`` has ``measure``, ``value``, ``chance``, and for accuracies ``interval`` (95 %, over the (N,)
    ``recordings`` of the clips) and ``largest_class``, the baseline that always predicts the most frequent class.
    """
    return _multi_label(clips) if clips.multi_label else _single_label(clips, recordings)


def _single_label(clips: ClipScores, recordings: np.ndarray) -> dict[str, Any]:
    count, num_classes = clips.scores.shape
    confusion = confusion_matrix(clips.predicted, clips.labels, num_classes)
    per_class = class_scores(confusion)
    shares = np.sort(per_class.n)[::-1] / count
    hits = clips.predicted == clips.labels
    headline: list[dict[str, Any]] = [
        {
            "measure": "accuracy",
            "value": float(hits.mean()),
            "interval": list(mean_interval(hits, recordings)),
            "chance": 1 / num_classes,
            "largest_class": float(shares[0]),
        }
    ]
    if num_classes > 5:
        headline.append(
            {
                "measure": "top-5 accuracy",
                "value": top_k_accuracy(clips.scores, clips.labels, 5),
                "chance": 5 / num_classes,
                "largest_class": float(shares[:5].sum()),
            }
        )
    present = int((per_class.n > 0).sum())
    headline.append(
        {
            "measure": "mean recall of the classes",
            "value": float(np.nanmean(per_class.recall)),
            "chance": 1 / num_classes,
            "largest_class": 1 / present,
        }
    )
    names = [
        {
            "name": name,
            "n": int(per_class.n[k]),
            "recall": _plain(per_class.recall[k]),
            "interval": _class_interval(hits, recordings, clips.labels == k),
            "precision": _plain(per_class.precision[k]),
            "f1": _plain(per_class.f1[k]),
        }
        for k, name in enumerate(clips.classes)
    ]
    pairs = [
        {"true": clips.classes[true], "predicted": clips.classes[predicted], "n": n, "of": int(per_class.n[true])}
        for true, predicted, n in confused_pairs(confusion, _PAIRS)
    ]
    return {"headline": headline, "classes": names, "confusion": confusion.tolist(), "most_confused": pairs}


def _class_interval(hits: np.ndarray, recordings: np.ndarray, is_class: np.ndarray) -> list[float]:
    """Return the interval of the recall of a class, (0, 1) without clips."""
    return list(mean_interval(hits[is_class], recordings[is_class])) if is_class.any() else [0.0, 1.0]


def _multi_label(clips: ClipScores) -> dict[str, Any]:
    mean, per_class = mean_average_precision(clips.scores, clips.labels)
    share = clips.labels.mean(axis=0)
    chance = float(share[share > 0].mean())
    names = [
        {
            "name": name,
            "n": int(clips.labels[:, k].sum()),
            "average_precision": _plain(per_class[k]),
            "chance": share[k],
        }
        for k, name in enumerate(clips.classes)
    ]
    return {"headline": [{"measure": "mAP", "value": mean, "chance": chance}], "classes": names}


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
