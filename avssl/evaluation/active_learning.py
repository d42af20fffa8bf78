"""Active learning: run a strategy by name, and simulate the annotation of a data set with it.

:func:`select_clips` calls a strategy of :mod:`avssl.evaluation.selection` by name; :func:`label_curve` simulates
an annotator with the true labels.

Dimensions: N clips, K labeled classes, C features of a modality.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from avssl.core.errors import InputError
from avssl.evaluation.linear_probe import class_probabilities
from avssl.evaluation.selection import (
    Selection,
    select_disagreement,
    select_entropy,
    select_k_center,
    select_margin,
    select_mismatch,
    select_random,
    select_typicality,
    unit_rows,
)

STRATEGIES = ("random", "margin", "entropy", "k-center", "typicality", "disagreement")
"""Names for :func:`select_clips`."""
NEED_CLASSIFIER = ("margin", "entropy")
"""Strategies that need labels of two classes."""
NEED_BOTH = ("disagreement",)
"""Strategies that need video and audio."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Features and predictions that a strategy may use.

    Raises:
        ValueError: If there are no features.

    Example:
        >>> features = {"video": np.eye(3), "audio": np.ones((3, 2))}
        >>> evidence = Evidence(features, classes=np.array([]), probabilities={}, embeddings={})
        >>> evidence.joined.shape
        (3, 5)
        >>> evidence.at(np.array([0, 2])).features["video"].shape
        (2, 3)
    """

    features: Mapping[str, np.ndarray]
    """(N, C) features by modality."""
    classes: np.ndarray
    """(K,) labeled classes, sorted."""
    probabilities: Mapping[str, np.ndarray]
    """(N, K) predictions by modality, of classifiers of the labels so far; empty if K < 2."""
    embeddings: Mapping[str, np.ndarray]
    """(N, D) embeddings of ``"video"`` and ``"audio"`` in one space; may be empty."""

    def __post_init__(self) -> None:
        if not self.features:
            raise InputError("a strategy needs the features of at least one modality.")

    @property
    def probability(self) -> np.ndarray:
        """Mean (N, K) prediction of the modalities: late fusion with equal weights."""
        return np.mean(list(self.probabilities.values()), axis=0)

    def at(self, rows: np.ndarray) -> Evidence:
        """Return the evidence of some of the clips."""
        parts = (self.features, self.probabilities, self.embeddings)
        features, probabilities, embeddings = ({name: x[rows] for name, x in part.items()} for part in parts)
        return Evidence(features, self.classes, probabilities, embeddings)

    @property
    def joined(self) -> np.ndarray:
        """Concatenated (N, sum of C) features, of unit length for each modality so that none outweighs the other."""
        return np.concatenate([unit_rows(x) for x in self.features.values()], axis=1)


def gather_evidence(
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    labeled: np.ndarray,
    embeddings: Mapping[str, np.ndarray] | None = None,
) -> Evidence:
    """Fit a linear classifier for each modality on the labeled clips.

    Args:
        features: (N, C) features by modality.
        labels: (N,) labels; only those of ``labeled`` clips are used.
        labeled: (N,) bool.
        embeddings: (N, D) embeddings by modality.

    Raises:
        ValueError: As :func:`~avssl.evaluation.linear_probe.class_probabilities`.

    Example:
        >>> video = np.array([[-2.0], [-1.0], [1.0], [2.0]])
        >>> labels, labeled = np.array(["robin", "", "", "wren"]), np.array([True, False, False, True])
        >>> evidence = gather_evidence({"video": video}, labels, labeled)
        >>> evidence.classes[evidence.probability.argmax(axis=1)].tolist()
        ['robin', 'robin', 'wren', 'wren']
    """
    classes = np.unique(labels[labeled].astype(str))
    probabilities = {}
    if len(classes) > 1:
        known = labels[labeled].astype(str)
        probabilities = {name: class_probabilities(x[labeled], known, x)[1] for name, x in features.items()}
    return Evidence(features, classes, probabilities, embeddings or {})


def check_strategy(strategy: str, modalities: Collection[str], num_classes: int) -> None:
    """Check a strategy before features are computed for it.

    Args:
        strategy: One of :data:`STRATEGIES`.
        modalities: Modalities with features, ``"video"`` and/or ``"audio"``.
        num_classes: Number of labeled classes.

    Raises:
        ValueError: If the strategy is unknown, or a modality or label that it needs is missing.

    Example:
        >>> check_strategy("typicality", ["video"], num_classes=0)
        >>> check_strategy("margin", ["video"], num_classes=0)
        Traceback (most recent call last):
        avssl.core.errors.InputError: the strategy margin needs a classifier, so labels of at least two classes; ...
    """
    if strategy not in STRATEGIES:
        raise InputError(f"strategy ({strategy!r}) must be one of {', '.join(STRATEGIES)}.")
    if strategy in NEED_CLASSIFIER and num_classes < 2:
        without = ", ".join(name for name in STRATEGIES if name not in NEED_CLASSIFIER)
        raise InputError(
            f"the strategy {strategy} needs a classifier, so labels of at least two classes; there are {num_classes}. "
            f"These need none: {without}."
        )
    if strategy in NEED_BOTH and {*modalities} != {"video", "audio"}:
        raise InputError(f"the strategy {strategy} needs video and audio, got {', '.join(modalities)}.")


def select_clips(strategy: str, evidence: Evidence, labeled: np.ndarray, budget: int, seed: int = 0) -> Selection:
    """Choose the clips to label next.

    The strategy ``disagreement`` compares the two classifiers or, before there are any, the embeddings.

    Args:
        strategy: One of :data:`STRATEGIES`.
        evidence: Evidence of the N clips.
        labeled: (N,) bool.
        budget: Number of clips.
        seed: Random seed of the strategy.

    Raises:
        ValueError: If the strategy is unknown or lacks evidence, or as the strategy raises.

    Example:
        >>> video, labeled = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]]), np.array([True, False, False])
        >>> evidence = gather_evidence({"video": video}, np.array(["robin", "", ""]), labeled)
        >>> select_clips("k-center", evidence, labeled, budget=1).index  # the clip farthest from the labeled one
        array([2])
    """
    check_strategy(strategy, evidence.features, len(evidence.classes))
    match strategy:
        case "random":
            return select_random(labeled, budget, seed)
        case "margin":
            return select_margin(evidence.probability, labeled, budget, seed)
        case "entropy":
            return select_entropy(evidence.probability, labeled, budget, seed)
        case "k-center":
            return select_k_center(evidence.joined, labeled, budget, seed)
        case "typicality":
            return select_typicality(evidence.joined, labeled, budget, seed)
        case "disagreement" if evidence.probabilities:
            video, audio = (evidence.probabilities[name] for name in ("video", "audio"))
            return select_disagreement(video, audio, labeled, budget, seed)
        case "disagreement" if evidence.embeddings:
            video, audio = (evidence.embeddings[name] for name in ("video", "audio"))
            return select_mismatch(video, audio, labeled, budget, seed)
        case "disagreement":
            raise InputError("the strategy disagreement needs labels of two classes or embeddings, and has neither.")
    raise AssertionError(strategy)  # check_strategy knows the names


class CurvePoint(NamedTuple):
    """Accuracy after a number of labels.

    Example:
        >>> video, labels = np.eye(2)[[0, 1, 0, 1]], np.array(["robin", "wren", "robin", "wren"])
        >>> pool, test = np.array([0, 1]), np.array([2, 3])
        >>> first, last = label_curve("random", {"video": video}, labels, pool, test, budget=1, rounds=2)
        >>> last.num_labels, last.num_classes, last.accuracy
        (2, 2, 1.0)
    """

    num_labels: int
    """Number of labels so far."""
    num_classes: int
    """Number of labeled classes."""
    accuracy: float
    """Accuracy on the test clips, in [0, 1]; clips of unlabeled classes count as wrong."""


def label_curve(
    strategy: str,
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    pool: np.ndarray,
    test: np.ndarray,
    *,
    budget: int,
    rounds: int,
    embeddings: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> list[CurvePoint]:
    """Simulate annotation: label ``budget`` clips in each round as a strategy chooses, starting with none.

    While fewer than two classes are labeled, strategies that need a classifier choose like ``"random"`` with
    the same seed.

    Args:
        strategy: One of :data:`STRATEGIES`.
        features: (N, C) features by modality.
        labels: (N,) true labels.
        pool: Positions of the clips that may be labeled.
        test: Positions of the test clips; never labeled.
        budget: Labels for each round, >= 1.
        rounds: Largest number of rounds, >= 1; they end when the whole pool is labeled.
        embeddings: (N, D) embeddings by modality.
        seed: Random seed of the strategy.

    Returns:
        One point for each round.

    Raises:
        ValueError: If a number is below 1, the pool or the test is empty, or they share clips.

    Example:
        >>> video, labels = np.eye(2)[[0, 1, 0, 1]], np.array(["robin", "wren", "robin", "wren"])
        >>> pool, test = np.array([0, 1]), np.array([2, 3])
        >>> curve = label_curve("k-center", {"video": video}, labels, pool, test, budget=1, rounds=2)
        >>> [(point.num_labels, point.accuracy) for point in curve]
        [(1, 0.5), (2, 1.0)]
    """
    if min(budget, rounds, len(pool), len(test)) < 1 or np.intersect1d(pool, test).size:
        raise InputError(
            f"budget ({budget}), rounds ({rounds}) and clips of pool ({len(pool)}) and test ({len(test)}) "
            "must be at least 1, and no clip be in both."
        )
    labeled = np.zeros(len(labels), dtype=bool)
    points: list[CurvePoint] = []
    evidence = gather_evidence(features, labels, labeled, embeddings)
    while len(points) < rounds and not labeled[pool].all():
        is_blind = strategy in NEED_CLASSIFIER and not evidence.probabilities
        spend = min(budget, int((~labeled[pool]).sum()))
        chosen = select_clips("random" if is_blind else strategy, evidence.at(pool), labeled[pool], spend, seed)
        labeled[pool[chosen.index]] = True
        evidence = gather_evidence(features, labels, labeled, embeddings)
        points.append(CurvePoint(int(labeled.sum()), len(evidence.classes), _accuracy(evidence, labels, test)))
    return points


def _accuracy(evidence: Evidence, labels: np.ndarray, test: np.ndarray) -> float:
    """Return the accuracy; with a single labeled class there is no classifier, and that class is predicted."""
    if not evidence.probabilities:
        predicted = evidence.classes[:1]
    else:
        predicted = evidence.classes[evidence.probability[test].argmax(axis=1)]
    return float((predicted == labels[test].astype(str)).mean())
