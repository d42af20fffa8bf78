"""k nearest neighbors on frozen features.

Sources: the votes weighted by exp(cosine / temperature) are those of Wu et al., CVPR 2018,
https://arxiv.org/abs/1805.01978, section 3.4; without a temperature the majority decides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from avssl.core.errors import InputError
from avssl.evaluation.classifier_result import ClassifierResult, classifier_fields
from avssl.evaluation.labeled_features import labeled_split


def knn_classifier(
    train_features: np.ndarray,
    train_labels: Sequence[str | int] | np.ndarray,
    test_features: np.ndarray,
    test_labels: Sequence[str | int] | np.ndarray,
    *,
    k: int = 20,
    temperature: float | None = 0.07,
) -> ClassifierResult:
    """Classify test clips by their ``k`` nearest training clips in cosine distance.

    Args:
        train_features: (N, D) float of any scale.
        train_labels: N strings or ints, at least two different.
        test_features: (M, D) float.
        test_labels: M strings or ints that occur in training.
        k: Number of neighbors, at most N. Wu et al. use 200 for a million clips.
        temperature: Temperature of the weights exp(cosine / temperature), > 0; None counts votes. Of equal
            sums the first class wins.

    Raises:
        ValueError: On invalid features or labels (see :func:`linear_probe`), ``k`` or ``temperature``.

    Example:
        >>> train, test = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), np.array([[2.0, 0.1], [0.1, 3.0]])
        >>> knn_classifier(train, ["robin", "robin", "wren"], test, ["robin", "wren"], k=1).accuracy
        1.0
    """
    split = labeled_split(train_features, train_labels, test_features, test_labels)
    if not 1 <= k <= len(split.train_y):
        raise InputError(f"k ({k}) must be between 1 and the number of training clips, {len(split.train_y)}.")
    if temperature is not None and not temperature > 0:
        raise InputError(f"temperature ({temperature}) must be greater than 0, or None to count votes.")

    def weights(distances: np.ndarray) -> np.ndarray:
        # Relative to the nearest neighbor: exp(1 / temperature) overflows for temperatures below 0.0014.
        return np.exp((distances.min(axis=1, keepdims=True) - distances) / temperature)

    classifier = KNeighborsClassifier(
        k, weights="uniform" if temperature is None else weights, algorithm="brute", metric="cosine"
    )
    votes = classifier.fit(split.train_x, split.train_y).predict_proba(split.test_x)
    return ClassifierResult(**classifier_fields(votes, split.test_y, split.classes, len(split.train_y)))
