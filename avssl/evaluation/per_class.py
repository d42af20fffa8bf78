"""Scores of each class from a confusion matrix, and the most confused pairs.

Dimensions: K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_fscore_support

from avssl.core.errors import InputError
from avssl.evaluation.intervals import wilson_interval


@dataclass(frozen=True, eq=False)
class ClassScores:
    """One value for each class; shares in [0, 1].

    Example:
        >>> scores = class_scores(confusion_matrix(predicted=[0, 1, 1], labels=[0, 0, 1], num_classes=2))
        >>> scores.n, scores.f1.round(4)  # 2 P R / (P + R) of (1, 1/2) and (1/2, 1)
        (array([2, 1]), array([0.6667, 0.6667]))
    """

    n: np.ndarray
    """(K,) int64 number of clips."""
    recall: np.ndarray
    """(K,) share of the class's clips that are predicted as such; NaN without clips."""
    precision: np.ndarray
    """(K,) share of the clips predicted as this class that belong to it; NaN without predictions."""
    f1: np.ndarray
    """(K,) harmonic mean of precision and recall; NaN without clips and predictions."""
    interval: np.ndarray
    """(K, 2) 95 % Wilson interval of the recall; 0 and 1 without clips."""


def class_scores(confusion: ArrayLike) -> ClassScores:
    """Compute the scores of each class from (K, K) counts, rows true and columns predicted.

    Raises:
        ValueError: If ``confusion`` is not a square of counts.

    Example:
        >>> scores = class_scores([[1, 1], [0, 2]])
        >>> scores.recall, scores.precision.round(4)
        (array([0.5, 1. ]), array([1.    , 0.6667]))
    """
    counts = _counts(confusion)
    true, predicted = (axis.ravel() for axis in np.indices(counts.shape))
    precision, recall, f1, _ = precision_recall_fscore_support(
        true, predicted, labels=np.arange(len(counts)), sample_weight=counts.ravel(), zero_division=np.nan
    )
    clips = counts.sum(axis=1)
    interval = np.stack(wilson_interval(np.diag(counts), clips), axis=1)
    return ClassScores(n=clips, recall=recall, precision=precision, f1=f1, interval=interval)


def confused_pairs(confusion: ArrayLike, most: int) -> list[tuple[int, int, int]]:
    """Return the most frequent mistakes.

    Args:
        confusion: (K, K) counts, rows true and columns predicted.
        most: Largest number of pairs.

    Returns:
        (true class, predicted class, clips) by decreasing number of clips, then in the order of the classes.

    Raises:
        ValueError: If ``confusion`` is not a square of counts.

    Example:
        >>> confused_pairs([[3, 2, 0], [0, 4, 1], [0, 0, 5]], most=5)
        [(0, 1, 2), (1, 2, 1)]
    """
    counts = _counts(confusion)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, counts.shape), strict=True)
    return [
        (int(true), int(predicted), int(counts[true, predicted]))
        for true, predicted in pairs
        if counts[true, predicted]
    ]


def _counts(confusion: ArrayLike) -> np.ndarray:
    counts = np.array(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise InputError(f"confusion must be (K, K) whole numbers >= 0, got shape {counts.shape} of {counts.dtype}.")
    return counts.astype(np.int64)
