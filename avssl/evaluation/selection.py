"""Active learning: strategies that choose the clips to label next.

Every strategy returns ``budget`` unlabeled clips in order of priority, and a score for each. The same arguments
give the same clips; the seed orders equal scores.

Dimensions: N clips, K classes, D features.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import entr
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from avssl.core.errors import InputError

NEIGHBORS = 20
"""Neighbors within its cluster that define the typicality of a clip."""
MIN_CLUSTER = 5
"""Smaller clusters are outliers and come last."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Clips to label, in order of priority.

    Example:
        >>> video, labeled = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), np.array([True, False, False])
        >>> evidence = gather_evidence({"video": video}, np.array(["robin", "", ""]), labeled)
        >>> chosen = select_clips("k-center", evidence, labeled, budget=2)
        >>> chosen.index, chosen.score.round(2)  # distances to the nearest labeled or chosen clip
        (array([2, 1]), array([1.41, 0.63]))
    """

    index: np.ndarray
    """(budget,) int64 positions of different unlabeled clips."""
    score: np.ndarray
    """(budget,) float64 in the unit of the strategy."""


def select_random(labeled: np.ndarray, budget: int, seed: int = 0) -> Selection:
    """Choose clips at random, the baseline of every strategy.

    Args:
        labeled: (N,) bool.
        budget: Number of clips, in [1, number of unlabeled clips].

    Returns:
        Random scores, uniform in [0, 1).

    Raises:
        ValueError: If the budget is larger than the number of unlabeled clips.
    """
    draws = np.random.default_rng(seed).random(len(labeled))
    return _largest(draws, labeled, budget, seed)


def select_margin(probabilities: np.ndarray, labeled: np.ndarray, budget: int, seed: int = 0) -> Selection:
    """Choose clips whose two most probable classes are closest.

    Source: Scheffer, Decomain and Wrobel, 2001.

    Args:
        probabilities: (N, K) of a classifier, K >= 2; rows sum to 1.
        labeled: (N,) bool.
        budget: Number of clips.
        seed: Random seed for the order of equal scores.

    Returns:
        Margins in [0, 1], smallest first.

    Raises:
        ValueError: As :func:`select_random`, or if rows are not probabilities.
    """
    _check_probabilities("probabilities", probabilities, labeled)
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    chosen = _largest(top[:, 0] - top[:, 1], labeled, budget, seed)
    return Selection(chosen.index, -chosen.score)


def select_entropy(probabilities: np.ndarray, labeled: np.ndarray, budget: int, seed: int = 0) -> Selection:
    """Choose clips whose class is most uncertain.

    Source: Settles, 2009, Active learning literature survey, section 3.1.

    Arguments and errors are those of :func:`select_margin`.

    Returns:
        Entropies in nats, in [0, log K], largest first.
    """
    _check_probabilities("probabilities", probabilities, labeled)
    return _largest(_entropy(probabilities), labeled, budget, seed)


def select_disagreement(
    video: np.ndarray, audio: np.ndarray, labeled: np.ndarray, budget: int, seed: int = 0
) -> Selection:
    """Choose clips for which the classifiers of the two modalities disagree.

    The score is the Jensen-Shannon divergence of their probabilities: the disagreement of a committee
    (McCallum and Nigam, 1998). Unlike the entropy it is 0 if both are uncertain in the same way.

    Args:
        video: (N, K) probabilities of a video classifier.
        audio: (N, K) probabilities of an audio classifier of the same classes.
        labeled: (N,) bool.
        budget: Number of clips.
        seed: Random seed for the order of equal scores.

    Returns:
        Divergences in nats, in [0, log 2], largest first.

    Raises:
        ValueError: As :func:`select_margin`, or if the two differ in shape.
    """
    _check_probabilities("video", video, labeled)
    _check_probabilities("audio", audio, labeled)
    if video.shape != audio.shape:
        raise InputError(f"video {video.shape} and audio {audio.shape} must hold the same clips and classes.")
    divergence = _entropy((video + audio) / 2) - (_entropy(video) + _entropy(audio)) / 2
    return _largest(np.maximum(divergence, 0), labeled, budget, seed)


def select_mismatch(video: np.ndarray, audio: np.ndarray, labeled: np.ndarray, budget: int, seed: int = 0) -> Selection:
    """Choose clips whose audio and video embeddings differ most; needs no labels.

    Args:
        video: (N, D) embeddings of any scale.
        audio: (N, D) embeddings of the same clips in the same space.
        labeled: (N,) bool.
        budget: Number of clips.
        seed: Random seed for the order of equal scores.

    Returns:
        1 - cosine, in [0, 2], largest first.

    Raises:
        ValueError: As :func:`select_k_center`, or if the two differ in shape.
    """
    for name, values in {"video": video, "audio": audio}.items():
        _check_features(name, values, labeled)
    if video.shape != audio.shape:
        raise InputError(f"video {video.shape} and audio {audio.shape} must be embeddings in one space.")
    cosine = (unit_rows(video) * unit_rows(audio)).sum(axis=1)
    return _largest(1 - cosine, labeled, budget, seed)


def select_k_center(features: np.ndarray, labeled: np.ndarray, budget: int, seed: int = 0) -> Selection:
    """Choose clips so that no clip is far from a labeled one: greedy k-center, a core set.

    Source: Sener and Savarese, 2018, https://arxiv.org/abs/1708.00489, algorithm 1. Each next clip is the one
    farthest from all labeled or chosen clips. Without labels the first clip is random.

    Args:
        features: (N, D) float.
        labeled: (N,) bool.
        budget: Number of clips.
        seed: Random seed for the first clip.

    Returns:
        Euclidean distances to the nearest clip labeled or chosen before, never increasing; infinite for a
        first clip without labels.

    Raises:
        ValueError: As :func:`select_random`, or if the features are not finite or have another length.
    """
    _check_features("features", features, labeled)
    check_budget(labeled, budget)
    x = np.asarray(features, dtype=np.float64)
    nearest = np.full(len(x), np.inf)
    for center in np.flatnonzero(labeled).tolist():
        nearest = np.minimum(nearest, _distances(x, center))
    nearest[labeled] = -1  # below any distance, so that a center is never chosen
    index, score = np.empty(budget, dtype=np.int64), np.empty(budget)
    for number in range(budget):
        is_first = number == 0 and not labeled.any()
        farthest = int(select_random(labeled, 1, seed).index[0] if is_first else nearest.argmax())
        index[number], score[number] = farthest, nearest[farthest]
        nearest = np.minimum(nearest, _distances(x, farthest))
        nearest[farthest] = -1
    return Selection(index, score)


def select_typicality(features: np.ndarray, labeled: np.ndarray, budget: int, seed: int = 0) -> Selection:
    """Choose the most typical clip of every large unlabeled cluster: TypiClust, for small budgets.

    Source: Hacohen, Dekel and Weinshall, 2022, https://arxiv.org/abs/2202.02794, section 3. k-means makes as
    many clusters as there are labels and budget. Then, repeatedly, the largest of the clusters with the fewest
    labeled or chosen clips gives its clip of highest typicality, the inverse mean distance to its 20 nearest
    neighbors within the cluster. Clusters of fewer than five clips come last.

    Args:
        features: (N, D) float of any scale.
        labeled: (N,) bool.
        budget: Number of clips.
        seed: Random seed of k-means.

    Returns:
        Typicalities: 0 for a clip alone in its cluster, infinite for clips that coincide.

    Raises:
        ValueError: As :func:`select_k_center`.
    """
    _check_features("features", features, labeled)
    check_budget(labeled, budget)
    x = unit_rows(features)
    cluster = _k_means(x, int(labeled.sum()) + budget, seed)
    typicality = _typicality(x, cluster)
    sizes = np.bincount(cluster)
    covered = np.bincount(cluster[labeled], minlength=len(sizes))
    waiting = {
        int(k): sorted(np.flatnonzero((cluster == k) & ~labeled).tolist(), key=lambda i: typicality[i])
        for k in np.unique(cluster[~labeled])
    }
    index = np.empty(budget, dtype=np.int64)
    for number in range(budget):
        best = min(waiting, key=lambda k: (sizes[k] < MIN_CLUSTER, covered[k], -sizes[k], k))
        index[number] = waiting[best].pop()
        covered[best] += 1
        if not waiting[best]:
            del waiting[best]
    return Selection(index, typicality[index])


def check_budget(labeled: np.ndarray, budget: int) -> None:
    """Raise ValueError unless ``labeled`` is (N,) bool with at least ``budget`` >= 1 unlabeled clips.

    Example:
        >>> check_budget(np.array([True, False, False]), budget=2)
        >>> check_budget(np.array([True, False, False]), budget=3)
        Traceback (most recent call last):
        avssl.core.errors.InputError: budget (3) must be between 1 and the number of clips without a label (2).
    """
    if labeled.ndim != 1 or labeled.dtype != bool:
        raise InputError(f"labeled must be (N,) bool, got {labeled.shape} {labeled.dtype}.")
    left = int((~labeled).sum())
    if not 1 <= budget <= left:
        raise InputError(f"budget ({budget}) must be between 1 and the number of clips without a label ({left}).")


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Scale the rows of (N, D) to length 1, as float64; rows of zeros stay."""
    return np.asarray(normalize(np.asarray(features, dtype=np.float64)))


def _largest(value: np.ndarray, labeled: np.ndarray, budget: int, seed: int) -> Selection:
    """Choose the unlabeled clips with the largest values."""
    check_budget(labeled, budget)
    candidates = np.random.default_rng(seed).permutation(np.flatnonzero(~labeled))
    index = candidates[np.argsort(-value[candidates], kind="stable")[:budget]]
    return Selection(index.astype(np.int64), value[index].astype(np.float64))


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the (N,) entropy in nats."""
    return np.asarray(entr(probabilities).sum(axis=1))


def _distances(x: np.ndarray, center: int) -> np.ndarray:
    return np.linalg.norm(x - x[center], axis=1)


def _k_means(x: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Return the (N,) cluster of each row; fewer clusters if fewer rows differ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct clips than clusters
        found = KMeans(min(num_clusters, len(x)), n_init=1, random_state=seed).fit(x).labels_
    return np.asarray(found, dtype=np.int64)


def _typicality(x: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Return the (N,) inverse mean distance to neighbors in the same cluster; 0 if a clip is alone."""
    typicality = np.zeros(len(x))
    for k in np.unique(cluster):
        members = np.flatnonzero(cluster == k)
        if len(members) > 1:
            neighbors = NearestNeighbors(n_neighbors=min(NEIGHBORS, len(members) - 1)).fit(x[members])
            with np.errstate(divide="ignore"):
                typicality[members] = 1 / neighbors.kneighbors()[0].mean(axis=1)
    return typicality


def _check_features(name: str, features: np.ndarray, labeled: np.ndarray) -> None:
    if features.ndim != 2 or len(features) != len(labeled):
        raise InputError(f"{name} must be ({len(labeled)}, D), one row for each clip of labeled, got {features.shape}.")
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise InputError(
            f"{name} hold NaN or infinity in {bad.sum()} of {len(bad)} clips, first in clip {bad.argmax()}."
        )


def _check_probabilities(name: str, probabilities: np.ndarray, labeled: np.ndarray) -> None:
    _check_features(name, probabilities, labeled)
    if probabilities.shape[1] < 2:
        raise InputError(f"{name} must be of at least two classes, got {probabilities.shape[1]}.")
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-4):
        raise InputError(f"{name} must be probabilities: rows >= 0 that sum to 1.")
