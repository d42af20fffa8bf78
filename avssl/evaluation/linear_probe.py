"""Linear probe on frozen features: multinomial logistic regression on standardized features.

The L2 strength is chosen on a held-out part of the *training* clips; the test clips are scored once.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from avssl.core.errors import InputError
from avssl.evaluation.classifier_result import ClassifierResult, classifier_fields
from avssl.evaluation.labeled_features import feature_array, labeled_features, labeled_split

DEFAULT_L2_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True, eq=False)
class ProbeResult(ClassifierResult):
    """Numbers of one probe, fitted on all training clips, held-out part included.

    Example:
        >>> features, labels = np.array([[-1.0], [1.0]] * 4), ["robin", "wren"] * 4
        >>> result = linear_probe(features[:6], labels[:6], features[6:], labels[6:], l2_grid=(0.01, 1.0))
        >>> result.l2, result.validation_accuracy, result.converged
        (0.01, {0.01: 1.0, 1.0: 1.0}, True)
    """

    l2: float
    """Chosen weight of ``|W|^2 / 2`` relative to the mean cross-entropy."""
    validation_accuracy: dict[float, float]
    """Held-out accuracy by L2 strength; empty if the grid has one value."""
    converged: bool
    """True if the final fit reached its tolerance within ``max_iterations``."""


def linear_probe(
    train_features: np.ndarray,
    train_labels: Sequence[str | int] | np.ndarray,
    test_features: np.ndarray,
    test_labels: Sequence[str | int] | np.ndarray,
    *,
    l2_grid: Sequence[float] = DEFAULT_L2_GRID,
    seed: int = 0,
    validation_fraction: float = 0.2,
    max_iterations: int = 1000,
) -> ProbeResult:
    """Fit a linear classifier on frozen features and score it on test clips.

    Features are standardized with the mean and deviation of the training clips; constant ones are dropped.
    A classifier is fitted for each value of ``l2_grid`` on the training clips without the held-out part; the
    value with the best held-out accuracy (then the lowest cross-entropy) is refitted on all training clips.

    Args:
        train_features: (N, D) float.
        train_labels: N strings or ints, at least two different.
        test_features: (M, D) float.
        test_labels: M strings or ints, that occur in training.
        l2_grid: Candidate weights of ``|W|^2 / 2``, > 0, relative to the *mean* loss, so that a value
            chosen on a part also fits the whole.
        seed: Random seed of the held-out part, which is stratified by class.
        validation_fraction: Held-out share of each class, in (0, 1).
        max_iterations: Limit of each L-BFGS fit.

    Raises:
        ValueError: On features and labels of different length, NaN or infinite features, test labels that do not
            occur in training, or a training set that cannot be split.

    Example:
        >>> features, labels = np.array([[-1.0], [1.0]] * 4), ["robin", "wren"] * 4
        >>> result = linear_probe(features[:6], labels[:6], features[6:], labels[6:])
        >>> result.accuracy, result.n_train, result.n_test
        (1.0, 6, 2)
    """
    classifier = LinearClassifier(
        train_features, train_labels, test_features, test_labels, l2_grid, seed, validation_fraction, max_iterations
    )
    return probe_result(classifier, classifier.test_log_probability)


class LinearClassifier:
    """Linear classifier of :func:`linear_probe`, with the log-probabilities that late fusion needs."""

    classes: np.ndarray
    """(K,) sorted."""
    test_labels: np.ndarray
    """(M,) int64 positions in ``classes``."""
    test_log_probability: np.ndarray
    """(M, K), fitted on all training clips."""
    held_out_labels: np.ndarray
    """(H,) int64 of the held-out part of the training clips."""
    held_out_log_probability: np.ndarray
    """(H, K), fitted on the rest of the training clips."""

    def __init__(
        self,
        train_features: np.ndarray,
        train_labels: Sequence[str | int] | np.ndarray,
        test_features: np.ndarray,
        test_labels: Sequence[str | int] | np.ndarray,
        l2_grid: Sequence[float],
        seed: int,
        validation_fraction: float,
        max_iterations: int,
    ) -> None:
        split = labeled_split(train_features, train_labels, test_features, test_labels)
        if not l2_grid or min(l2_grid) <= 0:
            raise InputError(f"l2_grid must hold values > 0, got {tuple(l2_grid)}.")
        if not 0 < validation_fraction < 1:
            raise InputError(f"validation_fraction must be in (0, 1), got {validation_fraction}.")
        self.classes, self.test_labels, train_y = split.classes, split.test_y, split.train_y
        train_x, test_x = standardized(split.train_x, split.test_x)
        held_out = _held_out(train_y, seed, validation_fraction)
        if len(l2_grid) > 1 and not held_out.any():
            raise InputError("every class has one training clip, so none can be held out; give l2_grid a single value.")
        self.l2, self.validation_accuracy, self.held_out_log_probability = _choose_l2(
            train_x, train_y, held_out, sorted(l2_grid), max_iterations
        )
        self.held_out_labels = train_y[held_out]
        model, self.converged = _fit(train_x, train_y, self.l2, max_iterations)
        self.test_log_probability = _log_probability(model, test_x)
        self.n_train = len(train_x)


def class_probabilities(
    train_features: np.ndarray,
    train_labels: Sequence[str | int] | np.ndarray,
    features: np.ndarray,
    *,
    l2: float = 1e-2,
    max_iterations: int = 1000,
) -> tuple[np.ndarray, np.ndarray]:
    """Predict the classes of unlabeled clips with a linear classifier.

    Args:
        train_features: (N, D) float.
        train_labels: N strings or ints; a single class has probability 1 everywhere.
        features: (M, D) float.
        l2: Weight of ``|W|^2 / 2`` relative to the mean loss, > 0; not chosen on held-out clips, because
            there may be very few labels.
        max_iterations: Limit of the L-BFGS fit.

    Returns:
        The K classes, sorted, and (M, K) probabilities.

    Raises:
        ValueError: On features and labels of different length, missing labels, or NaN or infinite features.
    """
    x, names = labeled_features("train", train_features, train_labels)
    other = feature_array("other", features)
    if x.shape[1] != other.shape[1]:
        raise InputError(f"train_features have {x.shape[1]} columns but other_features {other.shape[1]}.")
    classes, y = np.unique(names, return_inverse=True)
    if len(classes) == 1:
        return classes, np.ones((len(other), 1))
    x, other = standardized(x, other)
    model, _ = _fit(x, y, l2, max_iterations)
    return classes, model.predict_proba(other)


def probe_result(classifier: LinearClassifier, log_probability: np.ndarray) -> ProbeResult:
    """Compute the numbers for (M, K) log-probabilities of the classifier's test clips."""
    return ProbeResult(
        **classifier_fields(log_probability, classifier.test_labels, classifier.classes, classifier.n_train),
        l2=float(classifier.l2),
        validation_accuracy=classifier.validation_accuracy,
        converged=classifier.converged,
    )


def standardized(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subtract the mean of the training clips and divide by their deviation; constant features become 0."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    # Rounding makes the deviation of a constant feature tiny rather than zero, and dividing by it would turn
    # rounding errors into a feature of unit variance. scikit-learn's StandardScaler keeps such features.
    varies = deviation > 1e-6 * np.maximum(np.abs(mean), np.finfo(np.float32).tiny)
    scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
    return (train - mean) * scale, (test - mean) * scale


def _held_out(labels: np.ndarray, seed: int, fraction: float) -> np.ndarray:
    """Return (N,) bool, stratified; unlike in scikit-learn's splits, a class may have a single clip, which is kept."""
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), dtype=bool)
    for k in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == k))
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out[members[:count]] = True
    return held_out


def _choose_l2(
    x: np.ndarray, y: np.ndarray, held_out: np.ndarray, grid: Sequence[float], max_iterations: int
) -> tuple[float, dict[float, float], np.ndarray]:
    """Return the best strength, the held-out accuracy of each, and the best one's held-out log-probabilities."""
    if not held_out.any():
        return grid[0], {}, np.empty((0, y.max() + 1))
    scores: dict[float, tuple[float, float]] = {}
    found: dict[float, np.ndarray] = {}
    for l2 in grid:
        model, _ = _fit(x[~held_out], y[~held_out], l2, max_iterations)
        found[l2] = _log_probability(model, x[held_out])
        likelihood = np.take_along_axis(found[l2], y[held_out, None], axis=1).mean()
        scores[l2] = float((found[l2].argmax(axis=1) == y[held_out]).mean()), float(likelihood)
    best = max(grid, key=lambda l2: scores[l2])
    accuracies = {l2: accuracy for l2, (accuracy, _) in scores.items()} if len(grid) > 1 else {}
    return best, accuracies, found[best]


def _log_probability(model: LogisticRegression, x: np.ndarray) -> np.ndarray:
    """Return (n, K), finite also far from the training clips, where scikit-learn's is the logarithm of 0."""
    scores = model.decision_function(x)
    if scores.ndim == 1:  # two classes: the score of the second; the first has 0
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    return np.asarray(log_softmax(scores, axis=1))


def _fit(x: np.ndarray, y: np.ndarray, l2: float, max_iterations: int) -> tuple[LogisticRegression, bool]:
    # scikit-learn minimizes the *sum* of losses + |W|^2 / (2 C): C = 1 / (l2 N) makes it a mean.
    # The bias is not regularized.
    model = LogisticRegression(C=1.0 / (l2 * len(x)), tol=1e-4, max_iter=max_iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported as ProbeResult.converged
        model.fit(x, y)
    return model, bool(model.n_iter_.max() < max_iterations)
