"""Accuracy, confusion matrix and average precision of classifiers.

Ties never depend on the order of classes or clips: a classifier that gives all classes the same score has the accuracy
of chance, and one that gives all clips the same score has the average precision of chance.

Dimensions: N videos, W clips of each, K classes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.metrics import average_precision_score
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from avssl.core.errors import InputError
from avssl.evaluation.arrays import class_numbers, finite_array
from avssl.evaluation.retrieval import hit_probability


def average_clips(logits: ArrayLike, how: Literal["probability", "logit"] = "probability") -> np.ndarray:
    """Average the scores of the clips of each video.

    Args:
        logits: (N, W, K) float.
        how: ``"probability"`` averages the softmax of the clips, as AVID and most published numbers do;
            ``"logit"`` averages the logits.

    Returns:
        (N, K) float64.

    Raises:
        ValueError: If ``logits`` have another shape or hold NaN, or ``how`` is unknown.

    Example:
        >>> logits = np.log([[[1, 1], [3, 1]]])  # one video with two clips: probabilities (1/2, 1/2) and (3/4, 1/4)
        >>> average_clips(logits)
        array([[0.625, 0.375]])
    """
    if how not in ("probability", "logit"):
        raise InputError(f'how ({how!r}) must be "probability" or "logit".')
    values = finite_array("logits", logits, "(N, W, K)")
    return (softmax(values, axis=2) if how == "probability" else values).mean(axis=1)


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, k: int = 1) -> float:
    """Return the share of videos whose class is among the ``k`` with the highest scores, in [0, 1].

    Equal scores count in expectation over their random order; scikit-learn's ``top_k_accuracy_score`` would
    order them by class.

    Args:
        scores: (N, K) of any scale.
        labels: (N,) integers in [0, K).
        k: At least 1.

    Raises:
        ValueError: If the shapes do not match, a value is NaN, a label is not a class, or ``k`` is below 1.

    Example:
        >>> scores = [[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]
        >>> top_k_accuracy(scores, [0, 1]), top_k_accuracy(scores, [0, 1], k=2)
        (0.5, 1.0)
        >>> top_k_accuracy(np.zeros((2, 4)), [0, 3])
        0.25
    """
    if k < 1:
        raise InputError(f"k ({k}) must be at least 1.")
    values = finite_array("scores", scores, "(N, K)")
    rows = class_numbers("labels", labels, *values.shape)
    own = np.take_along_axis(values, rows[:, None], axis=1)
    better, tied = (values > own).sum(axis=1), (values == own).sum(axis=1) - 1  # minus the class itself
    return hit_probability(torch.from_numpy(better), torch.from_numpy(tied), k).mean().item()


def confusion_matrix(predicted: ArrayLike, labels: ArrayLike, num_classes: int) -> np.ndarray:
    """Return (K, K) int64 counts: rows are true classes, columns predicted ones.

    Args:
        predicted: (N,) integers in [0, K).
        labels: (N,) integers in [0, K).
        num_classes: K.

    Raises:
        ValueError: If the lengths differ or a number is not a class.

    Example:
        >>> confusion_matrix(predicted=[0, 1, 1, 2], labels=[0, 1, 2, 2], num_classes=3)
        array([[1, 0, 0],
               [0, 1, 0],
               [0, 1, 1]])
    """
    columns = class_numbers("predicted", predicted, len(np.asarray(predicted)), num_classes)
    rows = class_numbers("labels", labels, len(columns), num_classes)
    if num_classes == 1:  # scikit-learn warns about a single class
        return np.array([[len(rows)]], dtype=np.int64)
    counts: np.ndarray = sklearn_confusion_matrix(rows, columns, labels=np.arange(num_classes))
    return counts


def mean_average_precision(scores: ArrayLike, targets: ArrayLike) -> tuple[float, np.ndarray]:
    """Compute the mean over the classes of the average precision of their ranking of the videos.

    AP = sum over thresholds of (gain in recall) x precision, without interpolation, as in AudioSet's mAP;
    videos of equal score pass a threshold together.

    Args:
        scores: (N, K) of any scale, compared within each class.
        targets: (N, K) bool; a video may have several classes.

    Returns:
        The mean over the classes with positives, and (K,) for every class, NaN without positives.

    Raises:
        ValueError: If the shapes differ, a score is NaN, or no class has a positive.

    Example:
        >>> mean, per_class = mean_average_precision([[0.9], [0.8], [0.1]], [[True], [False], [True]])
        >>> round(mean, 4)  # (1/1 + 2/3) / 2
        0.8333
    """
    values = finite_array("scores", scores, "(N, K)")
    truth = np.asarray(targets)
    if truth.shape != values.shape or truth.dtype != bool:
        raise InputError(f"targets must be {values.shape} bool as scores are, got {truth.shape} {truth.dtype}.")
    if not truth.any():
        raise InputError("targets hold no positive in any class, so there is no average precision.")
    # scikit-learn's value for a class without positives is 0, which would lower the mean.
    per_class = np.array(
        [average_precision_score(t, s) if t.any() else np.nan for t, s in zip(truth.T, values.T, strict=True)]
    )
    return float(np.nanmean(per_class)), per_class
