"""Classifiers of frozen features whose clips may have several classes, scored by mean average precision.

Dimensions: N training clips, M test clips, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.neighbors import NearestNeighbors

from avssl.core.errors import InputError
from avssl.evaluation.classification import mean_average_precision
from avssl.evaluation.labeled_features import feature_array
from avssl.evaluation.linear_probe import DEFAULT_L2_GRID, standardized


@dataclass(frozen=True, eq=False)
class MultiLabelResult:
    """Scores of test clips, and their average precisions in [0, 1].

    Example:
        >>> features, targets = np.eye(2), np.array([[True, False], [False, True]])
        >>> result = multi_label_knn(features, targets, np.array([[3.0, 0.1]]), targets[:1], k=1)
        >>> result.scores, result.per_class  # no test clip has the second class
        (array([[1., 0.]]), array([ 1., nan]))
    """

    scores: np.ndarray
    """(M, K) probabilities or votes."""
    mean_average_precision: float
    """Mean over the classes that occur among the test clips."""
    per_class: np.ndarray
    """(K,) average precision of each class; NaN for classes without a test clip."""


def multi_label_probe(
    train_features: np.ndarray,
    train_targets: np.ndarray,
    test_features: np.ndarray,
    test_targets: np.ndarray,
    *,
    l2_grid: Sequence[float] = DEFAULT_L2_GRID,
    seed: int = 0,
    validation_fraction: float = 0.2,
    max_iterations: int = 200,
) -> MultiLabelResult:
    """Fit one logistic regression for each class on frozen features and score them on test clips.

    Features are standardized as in :func:`linear_probe`. The L2 strength, one for all classes, is the one with the best
    mAP on a random held-out part of the training clips; it is refitted on all of them.

    Args:
        train_features: (N, D) float.
        train_targets: (N, K) bool.
        test_features: (M, D) float.
        test_targets: (M, K) bool.
        l2_grid: Candidate weights of ``|W|^2 / 2``, > 0, relative to the mean loss of a class.
        seed: Random seed of the held-out part.
        validation_fraction: Held-out share, in (0, 1).
        max_iterations: Limit of each L-BFGS fit.

    Raises:
        InputError: If shapes do not match, a feature is not finite, a class has no training clip, or a value of
            ``l2_grid`` is not above 0.

    Example:
        >>> features, targets = np.array([[-1.0], [1.0]] * 4), np.array([[True, False], [True, True]] * 4)
        >>> result = multi_label_probe(features[:6], targets[:6], features[6:], targets[6:], l2_grid=(0.01,))
        >>> result.mean_average_precision
        1.0
    """
    x, y, other = _checked(train_features, train_targets, test_features, test_targets)
    if not l2_grid or min(l2_grid) <= 0:
        raise InputError(f"l2_grid must hold values > 0, got {tuple(l2_grid)}.")
    x, other = standardized(x, other)
    l2 = l2_grid[0]
    held_out = np.random.default_rng(seed).random(len(x)) < validation_fraction
    if len(l2_grid) > 1 and y[held_out].any() and not held_out.all():

        def score(strength: float) -> float:
            logits = _fit(x[~held_out], y[~held_out], strength, max_iterations)(x[held_out])
            return mean_average_precision(logits, y[held_out])[0]

        l2 = max(sorted(l2_grid), key=score)
    return _scored(expit(_fit(x, y, l2, max_iterations)(other)), test_targets)


def multi_label_knn(
    train_features: np.ndarray,
    train_targets: np.ndarray,
    test_features: np.ndarray,
    test_targets: np.ndarray,
    *,
    k: int = 20,
    temperature: float | None = 0.07,
) -> MultiLabelResult:
    """Score each class by the share of the nearest training clips that have it, as :func:`knn_classifier` votes.

    Args:
        train_features: (N, D) float of any scale.
        train_targets: (N, K) bool.
        test_features: (M, D) float.
        test_targets: (M, K) bool.
        k: Number of neighbors, at most N.
        temperature: Temperature of the weights exp(cosine / temperature), > 0; None counts votes.

    Raises:
        InputError: As :func:`multi_label_probe`, or on an invalid ``k`` or ``temperature``.

    Example:
        >>> features, targets = np.eye(2), np.array([[True, False], [True, True]])  # the second clip has both classes
        >>> multi_label_knn(features, targets, features + 0.1, targets, k=1).scores
        array([[1., 0.], [1., 1.]])
    """
    x, y, other = _checked(train_features, train_targets, test_features, test_targets)
    if not 1 <= k <= len(x):
        raise InputError(f"k ({k}) must be between 1 and the number of training clips, {len(x)}.")
    if temperature is not None and not temperature > 0:
        raise InputError(f"temperature ({temperature}) must be greater than 0, or None to count votes.")
    distances, neighbors = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(x).kneighbors(other)
    weights = np.ones_like(distances)
    if temperature is not None:  # relative to the nearest neighbor, or the exponential would overflow
        weights = np.exp((distances.min(axis=1, keepdims=True) - distances) / temperature)
    votes = np.einsum("mk,mkc->mc", weights / weights.sum(axis=1, keepdims=True), y[neighbors].astype(np.float64))
    return _scored(votes, test_targets)


def label_matrix(labels: Sequence[str] | np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return (N, K) bool from labels that are joined by ``|``.

    Raises:
        InputError: If a label is not among the classes.
    """
    number = {name: k for k, name in enumerate(classes)}
    matrix = np.zeros((len(labels), len(classes)), dtype=bool)
    for row, text in enumerate(labels):
        for name in str(text).split("|"):
            if name not in number:
                raise InputError(
                    f"the class {name!r} has test clips but no training clip. Drop those clips or fix the split."
                )
            matrix[row, number[name]] = True
    return matrix


def class_names(labels: Sequence[str] | np.ndarray) -> list[str]:
    """Return the sorted names of all classes of labels that are joined by ``|``."""
    return sorted({name for text in labels for name in str(text).split("|")})


def _checked(
    train_features: np.ndarray, train_targets: np.ndarray, test_features: np.ndarray, test_targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, other = feature_array("train", train_features), feature_array("test", test_features)
    if x.shape[1] != other.shape[1]:
        raise InputError(f"train_features have {x.shape[1]} columns but test_features {other.shape[1]}.")
    y = np.asarray(train_targets)
    if y.ndim != 2 or y.dtype != bool or len(y) != len(x) or np.asarray(test_targets).shape != (len(other), y.shape[1]):
        raise InputError(
            f"targets must be ({len(x)}, K) and ({len(other)}, K) bool, got {y.shape} {y.dtype} and "
            f"{np.asarray(test_targets).shape}."
        )
    if not y.any(axis=0).all():
        raise InputError(f"class {int((~y.any(axis=0)).argmax())} has no training clip.")
    return x, y, other


class _Linear:
    """Logits of all classes."""

    def __init__(self, parameters: np.ndarray, num_features: int) -> None:
        self._weights = parameters.reshape(num_features + 1, -1)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        logits: np.ndarray = x @ self._weights[:-1] + self._weights[-1]
        return logits


def _fit(x: np.ndarray, y: np.ndarray, l2: float, max_iterations: int) -> _Linear:
    """Minimize the sum over the classes of mean cross-entropy + l2 |w|^2 / 2; the bias is not regularized."""
    count, num_features = x.shape
    sign = np.where(y, -1.0, 1.0)

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights = parameters.reshape(num_features + 1, -1)
        logits = x @ weights[:-1] + weights[-1]
        loss = np.logaddexp(0, sign * logits).sum() / count + l2 / 2 * (weights[:-1] ** 2).sum()
        error = (expit(logits) - y) / count
        gradient = np.concatenate([x.T @ error + l2 * weights[:-1], error.sum(axis=0, keepdims=True)])
        return float(loss), gradient.ravel()

    start = np.zeros((num_features + 1, y.shape[1]))
    share = np.clip(y.mean(axis=0), 1 / (2 * count), 1 - 1 / (2 * count))
    start[-1] = np.log(share / (1 - share))
    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": max_iterations})
    return _Linear(found.x, num_features)


def _scored(scores: np.ndarray, targets: np.ndarray) -> MultiLabelResult:
    return MultiLabelResult(scores, *mean_average_precision(scores, np.asarray(targets)))
