"""Scores of VGGSounder: classes that are seen, heard or both, and modality confusion.

Source: Zverev et al., 2025, "VGGSounder: Audio-Visual Evaluations for Foundation Models",
https://arxiv.org/abs/2508.08237.

Dimensions: N clips, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from avssl.core.errors import InputError

TOP_K = (1, 3, 5, 10)
"""Numbers of best classes that are scored."""
Input = Literal["a", "v", "av"]
"""Input of a classifier: audio, video or both."""


def top_k_scores(scores: np.ndarray, targets: np.ndarray, top_k: Sequence[int] = TOP_K) -> dict[str, float]:
    """Compare the k best classes of clips that may have several classes with their true ones.

    Args:
        scores: (N, K) float, higher for likelier classes.
        targets: (N, K) bool, at least one class for each clip.
        top_k: Each k, at most K.

    Returns:
        For each k ``hit_rate@k`` (the share of clips with a true class among the k), ``f1@k``, ``precision@k``,
        ``recall@k`` and ``jaccard@k`` over all pairs of clip and class, ``f1_macro@k``, the mean over the classes, and
        ``accuracy@k``, the share of clips whose k are exactly their classes; ``auc_roc`` and ``auc_pr``, means over the
        classes that some but not all clips have.

    Raises:
        InputError: If the shapes differ, there is no clip, a clip has no class, or a k is out of range.
    """
    _check(scores, targets, top_k)
    order = np.argsort(scores, axis=1)
    found: dict[str, float] = {}
    for k in top_k:
        best = np.zeros(scores.shape, dtype=bool)
        np.put_along_axis(best, order[:, -k:], True, axis=1)
        found[f"hit_rate@{k}"] = float((best & targets).any(axis=1).mean())
        for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
            found[f"{name}@{k}"] = float(score(targets, best, average="micro", zero_division=0))
        found[f"jaccard@{k}"] = float(jaccard_score(targets, best, average="micro", zero_division=0))
        found[f"f1_macro@{k}"] = float(f1_score(targets, best, average="macro", zero_division=0))
        found[f"accuracy@{k}"] = float(accuracy_score(targets, best))
    usable = targets.any(axis=0) & ~targets.all(axis=0)
    for name, area in (("auc_roc", roc_auc_score), ("auc_pr", average_precision_score)):
        areas = [area(targets[:, i], scores[:, i]) for i in np.flatnonzero(usable)]
        found[name] = float(np.mean(areas)) if areas else 0.0
    return found


def modality_confusion(scores: Mapping[Input, np.ndarray], targets: np.ndarray) -> dict[Input, float]:
    """Return the share of clips that one modality alone gets right and both together get wrong.

    Right is the best class if it is one of the clip's. A model that gains by every modality has no confusion.

    Args:
        scores: (N, K) float of the same clips, from audio ``"a"``, video ``"v"`` and both ``"av"``.
        targets: (N, K) bool, the classes that are seen or heard.

    Returns:
        Shares in [0, 1] of clips confused by adding video to audio (``"a"``: audio alone is right), by adding audio to
        video (``"v"``), and of those where each alone is right (``"av"``).

    Raises:
        InputError: As :func:`top_k_scores`.
    """
    right: dict[Input, np.ndarray] = {}
    for name in ("a", "v", "av"):
        _check(scores[name], targets, (1,))
        best = np.argsort(scores[name], axis=1)[:, -1]
        right[name] = targets[np.arange(len(targets)), best]
    wrong = ~right["av"]
    return {
        "a": float((right["a"] & wrong).mean()),
        "v": float((right["v"] & wrong).mean()),
        "av": float((right["a"] & right["v"] & wrong).mean()),
    }


def _check(scores: np.ndarray, targets: np.ndarray, top_k: Sequence[int]) -> None:
    if scores.ndim != 2 or scores.shape != targets.shape or targets.dtype != bool or not len(scores):
        raise InputError(
            f"scores and targets are (N, K) of the same clips, targets bool, got {scores.shape} and {targets.shape} "
            f"{targets.dtype}."
        )
    if not targets.any(axis=1).all():
        raise InputError(f"clip {int(targets.any(axis=1).argmin())} has no class: leave it out.")
    if not all(1 <= k <= scores.shape[1] for k in top_k):
        raise InputError(f"top_k {tuple(top_k)} must be in [1, {scores.shape[1]}], the number of classes.")
