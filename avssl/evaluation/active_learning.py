"""Active learning: what a strategy may know of clips, and what its labels are worth.

:func:`select_clips` calls a strategy of :mod:`avssl.evaluation.selection` by name;
:func:`label_curve` plays the annotator who answers with the true labels.

Dimensions: N clips, K classes so far, C features of a modality.
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
"""Names that :func:`select_clips` knows."""
NEED_CLASSIFIER = ("margin", "entropy")
"""Those that can say nothing before two classes have a label."""
NEED_BOTH = ("disagreement",)
"""Those that need picture and sound."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a strategy may look at.

    Raises:
        ValueError: If there are no features.
    """

    features: Mapping[str, np.ndarray]
    """(N, C) by modality."""
    classes: np.ndarray
    """(K,) those that have a label so far, sorted."""
    probabilities: Mapping[str, np.ndarray]
    """(N, K) by modality, of classifiers of the labels so far; empty while K < 2."""
    embeddings: Mapping[str, np.ndarray]
    """(N, D) of ``"video"`` and ``"audio"`` in one space; empty if there are none."""

    def __post_init__(self) -> None:
        if not self.features:
            raise InputError("a strategy needs the features of at least one modality.")

    @property
    def probability(self) -> np.ndarray:
        """(N, K) mean over the modalities: late fusion with equal weights."""
        return np.mean(list(self.probabilities.values()), axis=0)

    def at(self, rows: np.ndarray) -> Evidence:
        """Of some of the clips."""
        parts = (self.features, self.probabilities, self.embeddings)
        features, probabilities, embeddings = ({name: x[rows] for name, x in part.items()} for part in parts)
        return Evidence(features, self.classes, probabilities, embeddings)

    @property
    def joined(self) -> np.ndarray:
        """(N, sum of C) features of unit length for each modality, so that none outweighs the other."""
        return np.concatenate([unit_rows(x) for x in self.features.values()], axis=1)


def gather_evidence(
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    labeled: np.ndarray,
    embeddings: Mapping[str, np.ndarray] | None = None,
) -> Evidence:
    """Fits one linear classifier for each modality on the labeled clips.

    Args:
        features: (N, C) by modality.
        labels: (N,) read where ``labeled``.
        labeled: (N,) bool.
        embeddings: (N, D) by modality.

    Raises:
        ValueError: As :func:`~avssl.evaluation.linear_probe.class_probabilities`.
    """
    classes = np.unique(labels[labeled].astype(str))
    probabilities = {}
    if len(classes) > 1:
        known = labels[labeled].astype(str)
        probabilities = {name: class_probabilities(x[labeled], known, x)[1] for name, x in features.items()}
    return Evidence(features, classes, probabilities, embeddings or {})


def check_strategy(strategy: str, modalities: Collection[str], num_classes: int) -> None:
    """Refuses what cannot be, before features are made for it.

    Args:
        strategy: Should be one of :data:`STRATEGIES`.
        modalities: Of ``"video"`` and ``"audio"``, those with features.
        num_classes: Classes that have a label.

    Raises:
        ValueError: If the strategy is unknown, or needs what is not there.
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
    """The clips that a strategy would label next.

    Disagreement is between the two classifiers once there are any, and before between the embeddings.

    Args:
        strategy: One of :data:`STRATEGIES`.
        evidence: Of the N clips.
        labeled: (N,) bool.
        budget: Clips to name.
        seed: Of draws, of k-means, and of the order among equals.

    Raises:
        ValueError: If the strategy is unknown, or needs what the evidence lacks; and as the strategy.
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
    """Accuracy after some labels."""

    num_labels: int
    """Labels spent."""
    num_classes: int
    """Classes among them."""
    accuracy: float
    """Share of the test clips whose most probable class is right, in [0, 1]; classes never labeled are wrong."""


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
    """Spends ``budget`` labels a round on what a strategy asks for, beginning with none.

    While fewer than two classes are labeled, strategies that need a classifier draw at random, as
    ``"random"`` of the same seed does.

    Args:
        strategy: One of :data:`STRATEGIES`.
        features: (N, C) by modality.
        labels: (N,) the true ones.
        pool: Positions of the clips that may be labeled.
        test: Positions of the clips that accuracy is measured on; never labeled.
        budget: Labels a round, >= 1.
        rounds: Most rounds, >= 1; they end when the pool is spent.
        embeddings: (N, D) by modality.
        seed: Of draws, of k-means, and of the order among equals.

    Returns:
        One point a round.

    Raises:
        ValueError: If a number is below 1, the pool or the test is empty, or they share clips.
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
    """With a single class there is no classifier, and that class is the answer."""
    if not evidence.probabilities:
        predicted = evidence.classes[:1]
    else:
        predicted = evidence.classes[evidence.probability[test].argmax(axis=1)]
    return float((predicted == labels[test].astype(str)).mean())
