"""Localization among pictures whose sound is not to be seen: does the model say so?

Each sample has a confidence that something in the picture sounds. Above a threshold, a negative sample is a
false positive, and a positive one a true positive if its cIoU reaches 0.5, else a false positive; a positive
sample below is a false negative. Precision and recall are 1 where they are undefined.

Source: Mo and Morgado, "A Closer Look at Weakly-Supervised Audio-Visual Source Localization" (SLAVC), NeurIPS
2022, https://arxiv.org/abs/2209.09634, and its released evaluator.

Dimensions: N samples, K thresholds, h and w cells of a map, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from avssl.core.errors import InputError
from avssl.evaluation.localization.arrays import Array, answer, as_maps, as_scores, as_truth
from avssl.evaluation.localization.chunks import samples_at_once
from avssl.evaluation.localization.curves import SUCCESS
from avssl.evaluation.localization.resizing import SIZE, check_mode, resize_maps
from avssl.evaluation.localization.rules import RULES, unit_scale

SIZE_BUCKETS: dict[str, float] = {"small": 32**2, "medium": 96**2, "large": 144**2, "huge": float("inf")}
"""Name -> area of the truth, in pixels at 224 x 224, that is too large for it."""


@dataclass(frozen=True)
class WithNegatives:
    """Results of :func:`with_negatives`, in [0, 1]."""

    ap: float
    """Average precision in SLAVC's form; not scikit-learn's."""
    max_f1: float
    """The highest F1 on a grid of some ten thresholds."""
    loc_acc: float
    """Share of positives whose cIoU is above (not at) 0.5; confidence plays no part. NaN without positives."""
    num_positives: int
    num_negatives: int


def with_negatives(
    confidence: Array | Sequence[float],
    ciou: Array | Sequence[float],
    has_box: Array | Sequence[float],
    at: float = SUCCESS,
) -> WithNegatives:
    """AP, max-F1 and LocAcc (also called Precision@50) of the extended Flickr and VGG-SS protocols.

    - AP: thresholds are the confidences without the largest, walked downwards in steps of
      ``max(1, N // 200)``. Recall gained from a threshold to the next is weighed with the highest precision
      from the former on; what the first threshold finds contributes nothing. 0 for a single sample,
      and where there are no positives (recall is 1 throughout).
    - max-F1: thresholds are every ``max(1, N // 10)``-th confidence, upwards from the smallest. F1 is 0
      where precision and recall both are.
    - LocAcc: of the positives, whose cIoU is **above** ``at``; everywhere else it is enough to reach it.

    Args:
        confidence: (N,) of any scale, higher where something visible sounds; :func:`slavc_confidence`.
        ciou: (N,) in [0, 1]; what negatives have there is not looked at.
        has_box: (N,) whether something visible sounds, or the number of its boxes.
        at: The cIoU of a success.

    Raises:
        ValueError: If the lengths differ, nothing is given, or a number is NaN.

    Example:
        >>> with_negatives([0.9, 0.8, 0.7, 0.6, 0.1], [0.7, 0.6, 0.9, 0.8, 0.0], [1, 1, 1, 1, 0])
        WithNegatives(ap=0.5, max_f1=1.0, loc_acc=1.0, num_positives=4, num_negatives=1)
    """
    sure, overlap = as_scores("confidence", confidence), as_scores("ciou", ciou)
    positive = as_scores("has_box", has_box) > 0
    for name, values in (("ciou", overlap), ("has_box", positive)):
        if len(values) != len(sure):
            raise InputError(f"{name} must hold one value for each of the {len(sure)} confidences, got {len(values)}.")
    right = positive & (overlap >= at)
    return WithNegatives(
        _average_precision(sure, right, positive),
        _max_f1(sure, right, positive),
        float((overlap[positive] > at).mean()) if positive.any() else float("nan"),
        int(positive.sum()),
        int((~positive).sum()),
    )


def _average_precision(confidence: np.ndarray, right: np.ndarray, positive: np.ndarray) -> float:
    thresholds = np.sort(confidence)[:-1][:: -max(1, len(confidence) // 200)]
    precision, recall = _precision_recall(confidence, right, positive, thresholds)
    from_here_on = np.maximum.accumulate(precision[::-1])[::-1]
    return float((from_here_on[:-1] * np.diff(recall)).sum())


def _max_f1(confidence: np.ndarray, right: np.ndarray, positive: np.ndarray) -> float:
    thresholds = np.sort(confidence)[:: max(1, len(confidence) // 10)]
    precision, recall = _precision_recall(confidence, right, positive, thresholds)
    both = precision + recall
    return float((2 * precision * recall / np.where(both > 0, both, 1)).max())


def _precision_recall(
    confidence: np.ndarray, right: np.ndarray, positive: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(K,) each."""
    found = confidence >= thresholds[:, None]  # (K, N): 2 MB for the 10 316 samples of extended VGG-SS
    hits, missed = (found & right).sum(axis=1), (~found & positive).sum(axis=1)
    return _share(hits, found.sum(axis=1)), _share(hits, hits + missed)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


def slavc_confidence(
    heatmap: Array, tau: float = 1.0, size: int | tuple[int, int] = SIZE, mode: str = RULES["slavc"].mode
) -> float | Array:
    """SLAVC's confidence: the mean of the highest quarter of the pixels of the raw map.

    Args:
        heatmap: (h, w), or (N, h, w), cosines divided by ``tau``, not normalized.
        tau: 1 for the cosines of this library; 0.03 for the maps of SLAVC's release.
        size: Height and width to which it is resized first.
        mode: Of that resize; see :func:`resize`.

    Returns:
        A float for one map, else (N,) float64: the mean, from [-1/tau, 1/tau] to [0, 1], of the
        ``ceil(H W / 4)`` highest pixels.

    Raises:
        ValueError: If a value lies outside [-1/tau, 1/tau], or is NaN, or the mode is unknown.

    Example:
        >>> slavc_confidence(np.array([[0.75, 0.0], [-0.5, 0.1]]), size=2)
        0.875
    """
    check_mode(mode)
    maps = as_maps("heatmap", heatmap)
    hw = (size, size) if isinstance(size, int) else size
    top = -(-hw[0] * hw[1] // 4)
    parts = []
    for some in maps.split(samples_at_once(hw)):
        scores = unit_scale(resize_maps(some, hw, mode), some, tau).flatten(1)
        parts.append(scores.topk(top, dim=1, sorted=False).values.double().mean(dim=1))
    return answer(torch.cat(parts), heatmap)


def size_buckets(truth: Array) -> str | np.ndarray:
    """By which size of the sounding object a result may be reported.

    Args:
        truth: (H, W), or (N, H, W), in [0, 1]; votes count as fractions.

    Returns:
        A name of :data:`SIZE_BUCKETS`, or (N,) of them: below 32 x 32, 96 x 96, 144 x 144 pixels, and the
        rest, areas being counted as if the truth were 224 x 224. Negatives, without truth, are
        "small" too: leave them out, as SLAVC does.

    Raises:
        ValueError: If the truth lies outside [0, 1].
    """
    target = as_truth("truth", truth)
    areas = target.sum(dim=(1, 2), dtype=torch.float64) * (SIZE**2 / (target.shape[1] * target.shape[2]))
    edges = np.array(list(SIZE_BUCKETS.values()))
    names = np.array(list(SIZE_BUCKETS))[np.searchsorted(edges, areas.cpu().numpy(), side="right")]
    return str(names[0]) if np.ndim(truth) == 2 else names
