"""Numbers of one classifier on test clips.

Dimensions: M test clips, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from avssl.evaluation.classification import confusion_matrix
from avssl.evaluation.per_class import class_scores


@dataclass(frozen=True, eq=False)
class ClassifierResult:
    """Numbers of one classifier on one test set.

    Example:
        >>> features, labels = np.eye(2), ["robin", "wren"]
        >>> result = knn_classifier(features, labels, [[2.0, 0.1], [1.0, 0.3]], labels, k=1)
        >>> result.accuracy, result.per_class
        (0.5, {'robin': 1.0, 'wren': 0.0})
        >>> result.confusion.tolist()
        [[1, 0], [1, 0]]
    """

    accuracy: float
    """Share of test clips whose top class is right, in [0, 1]."""
    per_class: dict[str | int, float]
    """Recall of each class, in [0, 1]; NaN for a class without test clips."""
    confusion: np.ndarray
    """(K, K) int64 counts: rows are true classes, columns predicted ones, in the order of ``classes``."""
    classes: tuple[str | int, ...]
    """The K classes of the training clips, sorted."""
    correct: np.ndarray
    """(M,) bool for each clip, for intervals and paired comparisons."""
    predicted: np.ndarray
    """(M,) int64 positions in ``classes``."""
    n_train: int
    """Number of training clips."""
    n_test: int
    """Number of test clips."""

    @property
    def mean_per_class(self) -> float:
        """Mean recall over the classes that have test clips, in [0, 1]."""
        return float(np.nanmean(list(self.per_class.values())))


def classifier_fields(scores: np.ndarray, truth: np.ndarray, classes: np.ndarray, n_train: int) -> dict[str, Any]:
    """Compute the fields of :class:`ClassifierResult`, also for its subclasses.

    Args:
        scores: (M, K); the first of the highest is predicted.
        truth: (M,) positions in ``classes``.
        classes: (K,) sorted.
        n_train: Number of training clips.
    """
    predicted = scores.argmax(axis=1).astype(np.int64)
    confusion = confusion_matrix(predicted, truth, len(classes))
    names = tuple(classes.tolist())
    return {
        "accuracy": float((predicted == truth).mean()),
        "per_class": dict(zip(names, class_scores(confusion).recall.tolist(), strict=True)),
        "confusion": confusion,
        "classes": names,
        "correct": predicted == truth,
        "predicted": predicted,
        "n_train": n_train,
        "n_test": len(truth),
    }
