"""What a confusion matrix says class by class, and which classes are taken for which.

Dimensions: K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from avssl.core.errors import InputError
from avssl.evaluation.intervals import wilson_interval


@dataclass(frozen=True, eq=False)
class ClassScores:
    """One value a class; shares in [0, 1]."""

    n: np.ndarray
    """(K,) int64 clips of the class."""
    recall: np.ndarray
    """(K,) share of its clips that are found; NaN without clips."""
    precision: np.ndarray
    """(K,) share of the clips said to be of the class that are; NaN where none is."""
    f1: np.ndarray
    """(K,) harmonic mean of the two: 2 right / (clips + predictions); NaN without either."""
    interval: np.ndarray
    """(K, 2) Wilson's 95 % interval of the recall; 0 and 1 without clips."""


def class_scores(confusion: ArrayLike) -> ClassScores:
    """Scores of each class from (K, K) counts, rows true and columns predicted.

    Raises:
        ValueError: If ``confusion`` is not a square of counts.
    """
    counts = _counts(confusion)
    right, clips, predictions = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    interval = np.stack(np.broadcast_arrays(*wilson_interval(right, clips)), axis=1)
    return ClassScores(
        n=clips,
        recall=_share(right, clips),
        precision=_share(right, predictions),
        f1=_share(2 * right, clips + predictions),
        interval=interval,
    )


def confused_pairs(confusion: ArrayLike, most: int) -> list[tuple[int, int, int]]:
    """The mistakes made most often.

    Args:
        confusion: (K, K) counts, rows true and columns predicted.
        most: How many pairs at most.

    Returns:
        (true class, predicted class, clips), by falling number of clips, then in the order of the classes.

    Raises:
        ValueError: If ``confusion`` is not a square of counts.
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


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
