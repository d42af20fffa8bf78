"""The extended protocols of SLAVC: some of the images do not show the source of the sound.

Each sample has a confidence that a visible object sounds. Above a threshold, a negative sample is a false positive,
and a positive one a true positive if its cIoU is at least 0.5, else a false positive; a positive sample below is a
false negative. Precision and recall are 1 where they are undefined.

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
from avssl.evaluation.localization.arrays import Array, as_given, as_maps, as_scores
from avssl.evaluation.localization.chunks import samples_at_once
from avssl.evaluation.localization.curves import SUCCESS
from avssl.evaluation.localization.resizing import SIZE, check_mode, interpolate
from avssl.evaluation.localization.rules import RULES, unit_scale


@dataclass(frozen=True)
class ExtendedScores:
    """Results of :func:`extended_scores`, in [0, 1].

    Example:
        >>> scores = extended_scores(confidence=[0.9, 0.2], ciou=[0.8, 0.0], has_box=[1, 0])
        >>> scores.max_f1, scores.loc_acc, scores.num_negatives
        (1.0, 1.0, 1)
    """

    ap: float
    """Average precision as in SLAVC's release, which differs from scikit-learn's."""
    max_f1: float
    """Highest F1 of about ten thresholds."""
    loc_acc: float
    """Share of positives whose cIoU is above (not at) 0.5, at any confidence; NaN without positives."""
    num_positives: int
    """Pairs whose sound source is visible."""
    num_negatives: int
    """Pairs without a visible sound source."""


def extended_scores(
    confidence: Array | Sequence[float],
    ciou: Array | Sequence[float],
    has_box: Array | Sequence[float],
    at: float = SUCCESS,
) -> ExtendedScores:
    """Compute AP, max-F1 and LocAcc (also called Precision@50) of the extended Flickr and VGG-SS protocols.

    - AP: thresholds are the confidences except the largest, in decreasing order and steps of
      ``max(1, N // 200)``. The gain in recall from a threshold to the next is weighted with the highest
      precision from the former on; the recall at the first threshold is not counted. 0 for a single
      sample and without positives (recall is 1 throughout).
    - max-F1: thresholds are every ``max(1, N // 10)``-th confidence from the smallest on. F1 is 0 if
      precision and recall are 0.
    - LocAcc: share of positives with a cIoU **above** ``at``; everywhere else a cIoU equal to it counts.

    Args:
        confidence: (N,) of any scale, higher if a visible object sounds; :func:`slavc_confidence`.
        ciou: (N,) in [0, 1]; ignored for negatives.
        has_box: (N,) True, or the number of boxes, if a visible object sounds.
        at: cIoU of a success.

    Raises:
        ValueError: If the lengths differ, there are no samples, or a number is NaN.

    Example:
        >>> extended_scores([0.9, 0.8, 0.7, 0.6, 0.1], [0.7, 0.6, 0.9, 0.8, 0.0], [1, 1, 1, 1, 0])
        ExtendedScores(ap=0.5, max_f1=1.0, loc_acc=1.0, num_positives=4, num_negatives=1)
    """
    sure, overlap = as_scores("confidence", confidence), as_scores("ciou", ciou)
    positive = as_scores("has_box", has_box) > 0
    for name, values in (("ciou", overlap), ("has_box", positive)):
        if len(values) != len(sure):
            raise InputError(f"{name} must hold one value for each of the {len(sure)} confidences, got {len(values)}.")
    right = positive & (overlap >= at)
    return ExtendedScores(
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
    """Return (K,) precision and (K,) recall."""
    found = confidence >= thresholds[:, None]  # (K, N): 2 MB for the 10 316 samples of extended VGG-SS
    hits, missed = (found & right).sum(axis=1), (~found & positive).sum(axis=1)
    return _share(hits, found.sum(axis=1)), _share(hits, hits + missed)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


def slavc_confidence(
    heatmap: Array, tau: float = 1.0, size: int | tuple[int, int] = SIZE, mode: str = RULES["slavc"].mode
) -> float | Array:
    """Compute SLAVC's confidence: the mean of the highest quarter of the pixels of the raw map.

    Args:
        heatmap: (h, w), or (N, h, w), cosines divided by ``tau``, not normalized.
        tau: 1 for the cosines of this library; 0.03 for the maps of SLAVC's release.
        size: Height and width to which the map is resized first.
        mode: Resize mode; see :func:`resize_heatmaps`.

    Returns:
        A float for one map, else (N,) float64: the mean of the ``ceil(H W / 4)`` highest pixels,
        mapped from [-1/tau, 1/tau] to [0, 1].

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
        scores = unit_scale(interpolate(some, hw, mode), some, tau).flatten(1)
        parts.append(scores.topk(top, dim=1, sorted=False).values.double().mean(dim=1))
    return as_given(torch.cat(parts), heatmap)
