"""The numbers of a classifier that has seen several clips of every test video.

Dimensions: N videos, W clips of each, K classes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, softmax

from avssl.evaluation.classification import average_clips, confusion_matrix, mean_average_precision, top_k_accuracy

Average = Literal["probability", "logit"]


def video_probabilities(logits: ArrayLike, average: Average = "probability", multi_label: bool = False) -> np.ndarray:
    """(N, K) float64 probabilities of videos from (N, W, K) logits of their clips.

    Softmax or, for ``multi_label``, sigmoid; taken before the clips are averaged or after.
    """
    activation = expit if multi_label else (lambda values: softmax(values, axis=-1))
    if average == "logit" or not multi_label:
        scores = average_clips(logits, average)
        return np.asarray(activation(scores)) if average == "logit" else scores
    return average_clips(expit(np.asarray(logits, dtype=np.float64)), "logit")


def video_numbers(logits: ArrayLike, targets: ArrayLike, average: Average = "probability") -> dict[str, float]:
    """Accuracies of single-label videos, or average precisions of multi-label ones.

    Args:
        logits: (N, W, K).
        targets: (N,) classes, or (N, K) bool.
        average: What is averaged over the clips of a video.

    Returns:
        ``top1``, ``top5`` (of at least six classes) and ``mean_per_class`` of videos, and ``clip_top1`` of
        clips by themselves; or ``mAP`` and ``clip_mAP``. All in [0, 1].

    Raises:
        ValueError: If a value is NaN, or shapes do not fit.
    """
    values, truth = np.asarray(logits), np.asarray(targets)
    clips = values.reshape(-1, values.shape[-1])
    of_clips = np.repeat(truth, values.shape[1], axis=0)
    if truth.ndim == 2:
        scores = video_probabilities(values, average, multi_label=True)
        means = mean_average_precision(scores, truth)[0], mean_average_precision(clips, of_clips)[0]
        return dict(zip(("mAP", "clip_mAP"), means, strict=True))
    scores = video_probabilities(values, average)
    counts = confusion_matrix(scores.argmax(axis=1), truth, values.shape[-1])
    there = counts.sum(axis=1) > 0
    numbers = {"top1": top_k_accuracy(scores, truth)}
    if values.shape[-1] > 5:
        numbers["top5"] = top_k_accuracy(scores, truth, k=5)
    numbers["mean_per_class"] = float((counts.diagonal()[there] / counts.sum(axis=1)[there]).mean())
    return numbers | {"clip_top1": top_k_accuracy(clips, of_clips)}


def baseline_numbers(targets: ArrayLike, num_classes: int) -> dict[str, float]:
    """What says nothing of a video scores: ``chance``, and the class that most test videos have.

    Of multi-label videos chance is the mAP of equal scores, the mean share of the classes.
    """
    truth = np.asarray(targets)
    if truth.ndim == 2:
        return {"chance": mean_average_precision(np.zeros(truth.shape), truth)[0]}
    return {"chance": 1 / num_classes, "largest_class": float(np.bincount(truth).max() / len(truth))}
