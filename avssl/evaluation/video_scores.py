"""Scores of a classifier on videos from its logits on several clips of each.

Dimensions: N videos, W clips of each, K classes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, softmax
from sklearn.metrics import recall_score

from avssl.evaluation.classification import average_clips, mean_average_precision, top_k_accuracy

Average = Literal["probability", "logit"]


def video_probabilities(logits: ArrayLike, average: Average = "probability", multi_label: bool = False) -> np.ndarray:
    """Return (N, K) float64 probabilities of videos from (N, W, K) logits of their clips.

    Applies softmax (sigmoid for ``multi_label``) before or after averaging over the clips.
    """
    activation = expit if multi_label else (lambda values: softmax(values, axis=-1))
    if average == "logit" or not multi_label:
        scores = average_clips(logits, average)
        return np.asarray(activation(scores)) if average == "logit" else scores
    return average_clips(expit(np.asarray(logits, dtype=np.float64)), "logit")


def video_numbers(logits: ArrayLike, targets: ArrayLike, average: Average = "probability") -> dict[str, float]:
    """Compute accuracies of single-label videos, or average precisions of multi-label ones.

    Args:
        logits: (N, W, K).
        targets: (N,) classes, or (N, K) bool.
        average: Quantity that is averaged over the clips of a video.

    Returns:
        ``top1``, ``top5`` (for at least six classes) and ``mean_per_class`` of videos, and ``clip_top1`` of
        single clips; or ``mAP`` and ``clip_mAP``. All in [0, 1].

    Raises:
        ValueError: If a value is NaN, or shapes do not match.
    """
    values, truth = np.asarray(logits), np.asarray(targets)
    clips = values.reshape(-1, values.shape[-1])
    of_clips = np.repeat(truth, values.shape[1], axis=0)
    if truth.ndim == 2:
        scores = video_probabilities(values, average, multi_label=True)
        means = mean_average_precision(scores, truth)[0], mean_average_precision(clips, of_clips)[0]
        return dict(zip(("mAP", "clip_mAP"), means, strict=True))
    scores = video_probabilities(values, average)
    numbers = {"top1": top_k_accuracy(scores, truth)}
    if values.shape[-1] > 5:
        numbers["top5"] = top_k_accuracy(scores, truth, k=5)
    numbers["mean_per_class"] = float(
        recall_score(truth, scores.argmax(axis=1), labels=np.unique(truth), average="macro")
    )
    return numbers | {"clip_top1": top_k_accuracy(clips, of_clips)}


def baseline_numbers(targets: ArrayLike, num_classes: int) -> dict[str, float]:
    """Return baselines that ignore the video: ``chance`` and ``largest_class``.

    For multi-label videos, chance is the mAP of equal scores: the mean share of the classes.
    """
    truth = np.asarray(targets)
    if truth.ndim == 2:
        return {"chance": mean_average_precision(np.zeros(truth.shape), truth)[0]}
    return {"chance": 1 / num_classes, "largest_class": float(np.bincount(truth).max() / len(truth))}
