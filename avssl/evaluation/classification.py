"""Numbers of classifiers: several clips made one, accuracies, confusions, average precisions.

Ties are never resolved by the order of the classes or of the clips: a classifier that gives every class the
same score has the accuracy of chance, and one that gives every clip the same score has the average precision of chance.

Dimensions: N videos, W clips of each, K classes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import softmax

from avssl.core.errors import InputError
from avssl.evaluation.checked import class_numbers, finite_array
from avssl.evaluation.retrieval import hit_probability


def average_clips(logits: ArrayLike, how: Literal["probability", "logit"] = "probability") -> np.ndarray:
    """The scores of a video from those of its clips.

    Args:
        logits: (N, W, K) float, before the softmax.
        how: ``"probability"``, the mean of the clips' softmax, which AVID's and most published
            numbers use, or ``"logit"``, the mean of the logits.

    Returns:
        (N, K) float64.

    Raises:
        ValueError: If ``logits`` have another shape or hold NaN, or ``how`` is neither.
    """
    if how not in ("probability", "logit"):
        raise InputError(f'how ({how!r}) must be "probability" or "logit".')
    values = finite_array("logits", logits, "(N, W, K)")
    return (softmax(values, axis=2) if how == "probability" else values).mean(axis=1)


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, k: int = 1) -> float:
    """Share of videos whose class is among the ``k`` with the highest scores, in [0, 1].

    Classes of exactly equal score count in expectation over their random order.

    Args:
        scores: (N, K) of any scale.
        labels: (N,) whole numbers in [0, K).
        k: At least 1.

    Raises:
        ValueError: If the shapes do not fit, a value is NaN, a label is no class, or ``k`` is below 1.
    """
    if k < 1:
        raise InputError(f"k ({k}) must be at least 1.")
    values = finite_array("scores", scores, "(N, K)")
    rows = class_numbers("labels", labels, *values.shape)
    own = np.take_along_axis(values, rows[:, None], axis=1)
    better, tied = (values > own).sum(axis=1), (values == own).sum(axis=1) - 1  # less the class itself
    return hit_probability(torch.from_numpy(better), torch.from_numpy(tied), k).mean().item()


def confusion_matrix(predicted: ArrayLike, labels: ArrayLike, num_classes: int) -> np.ndarray:
    """(K, K) int64 counts: rows are true classes, columns predicted ones.

    Args:
        predicted: (N,) whole numbers in [0, K).
        labels: (N,) whole numbers in [0, K).
        num_classes: K.

    Raises:
        ValueError: If the lengths differ or a number is no class.
    """
    columns = class_numbers("predicted", predicted, len(np.asarray(predicted)), num_classes)
    rows = class_numbers("labels", labels, len(columns), num_classes)
    counts = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def mean_average_precision(scores: ArrayLike, targets: ArrayLike) -> tuple[float, np.ndarray]:
    """Mean over the classes of the average precision of their ranking of the videos.

    AP = sum over thresholds of (recall gained) x precision, without interpolation, as in
    scikit-learn's ``average_precision_score`` and AudioSet's mAP; videos of equal score pass a
    threshold together.

    Args:
        scores: (N, K) of any scale, compared within a class alone.
        targets: (N, K) bool, several classes a video allowed.

    Returns:
        The mean over the classes that have a positive, and (K,) of every class, NaN where it has none.

    Raises:
        ValueError: If the shapes differ, a score is NaN, or no class has a positive.
    """
    values = finite_array("scores", scores, "(N, K)")
    truth = np.asarray(targets)
    if truth.shape != values.shape or truth.dtype != bool:
        raise InputError(f"targets must be {values.shape} bool as scores are, got {truth.shape} {truth.dtype}.")
    if not truth.any():
        raise InputError("targets hold no positive in any class, so there is no average precision.")
    per_class = np.array([_average_precision(values[:, k], truth[:, k]) for k in range(values.shape[1])])
    return float(np.nanmean(per_class)), per_class


def _average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    # The last place of each run of equal scores: the whole run passes the threshold.
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    precision = hits[ends] / (ends + 1)
    return float((np.diff(hits[ends], prepend=0) * precision).sum() / hits[-1])
