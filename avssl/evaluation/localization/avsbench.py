"""AVSBench's scores of masks: IoU and the F-measure, the latter in the released and in a reproducible form.

Source: Zhou et al., "Audio-Visual Segmentation", ECCV 2022, https://arxiv.org/abs/2207.05042, and its released
evaluator (subsets S4 and MS3). CAVP's numbers pool intersections over the whole set instead and are higher.

Dimensions: N pictures, H and W pixels, K = 255 thresholds.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.localization.arrays import Array, answer, as_pair
from avssl.evaluation.localization.sweep import passing

EPSILON = 1e-7
"""Added to the union, so that an exact match scores a hair below 1."""

BETA_SQUARED = 0.3
"""Weight of recall against precision in F."""

F_THRESHOLDS = np.linspace(0, 1 - 1e-10, 255)

FRAMES_OF_A_VIDEO = 5
"""Pictures of a video; the released test scripts take one video a batch."""


def avsbench_iou(scores: Array, truth: Array, *, sigmoid: bool = True, threshold: float = 0.5) -> float | Array:
    """IoU of each picture's mask with its truth.

    Args:
        scores: (H, W), or (N, H, W): logits, or probabilities with ``sigmoid=False``.
        truth: As many masks of the same size, in [0, 1].
        sigmoid: Whether ``scores`` are logits.
        threshold: Pixels whose probability is above it are selected. Heat maps that are no probabilities,
            of methods without a mask, are min-max normalized first and given with ``sigmoid=False``.

    Returns:
        A float for one picture, else (N,) float64: intersection / (union + 1e-7); where the truth is empty,
        the share of the picture that is not selected.

    Raises:
        ValueError: If sizes differ, probabilities or truth lie outside [0, 1], or a score is NaN.

    Example:
        >>> round(avsbench_iou(np.array([[2.0, 2.0], [-2.0, -2.0]]), np.array([[1, 0], [0, 0]])), 6)
        0.5
    """
    p, target = _same_size(scores, truth, sigmoid)
    selected, g = (p > threshold).double().flatten(1), target.double().flatten(1)
    empty = g.sum(dim=1) == 0
    hit = torch.where(empty, (1 - selected).sum(dim=1), (selected * g).sum(dim=1))
    union = torch.where(empty, float(g.shape[1]), torch.maximum(selected, g).sum(dim=1))
    return answer(hit / (union + EPSILON), scores)


def avsbench_miou(scores: Array, truth: Array, *, sigmoid: bool = True, threshold: float = 0.5) -> float:
    """Mean of :func:`avsbench_iou` over the pictures (AVSBench's J).

    The release averages over batches, which is the same where all batches have one size.

    Args:
        scores: As in :func:`avsbench_iou`.
        truth: As in :func:`avsbench_iou`.
        sigmoid: As in :func:`avsbench_iou`.
        threshold: As in :func:`avsbench_iou`.

    Raises:
        ValueError: As :func:`avsbench_iou`.
    """
    iou = avsbench_iou(scores, truth, sigmoid=sigmoid, threshold=threshold)
    return iou if isinstance(iou, float) else float(iou.mean())


def avsbench_f(scores: Array, truth: Array, *, sigmoid: bool = True) -> float:
    """F-measure of a set of masks: the best of 255 thresholds, one for all pictures.

    F = 1.3 P R / (0.3 P + R) at each threshold of ``linspace(0, 1 - 1e-10, 255)`` (selected: from the
    threshold on), averaged over the pictures whose truth is not empty; the highest of these averages. It
    does not depend on batches: ACL-SSL scores so. Other papers have :func:`avsbench_f_released`.

    Args:
        scores: (N, H, W), or (H, W): logits, or probabilities with ``sigmoid=False``.
        truth: As many masks of the same size, in [0, 1].
        sigmoid: Whether ``scores`` are logits.

    Returns:
        A number in [0, 1]; 0 if every truth is empty.

    Raises:
        ValueError: If sizes differ, probabilities or truth lie outside [0, 1], or a score is NaN.

    Example:
        >>> round(avsbench_f(np.array([[0.9, 0.8], [0.1, 0.1]]), np.array([[1, 0], [0, 0]]), sigmoid=False), 6)
        1.0
    """
    return _best(_f_curves(*_same_size(scores, truth, sigmoid)))


def avsbench_f_released(
    scores: Array, truth: Array, batch_size: int = FRAMES_OF_A_VIDEO, *, sigmoid: bool = True
) -> float:
    """F-measure as AVSBench's evaluator computes it, which chooses a threshold for every batch.

    :func:`avsbench_f` of each batch, averaged over the batches. The smaller the batch, the higher the
    number: with one picture each has its own best threshold. Say the batch size beside it.

    Args:
        scores: (N, H, W), or (H, W), in the order of the test set: logits, or probabilities with
            ``sigmoid=False``.
        truth: As many masks of the same size, in [0, 1].
        batch_size: Pictures (not videos) in a batch; the last may be smaller and weighs the same. The
            released test scripts have one video of 5.
        sigmoid: Whether ``scores`` are logits.

    Returns:
        A number in [0, 1]. A batch in which every truth is empty counts as 0, as in the release.

    Raises:
        ValueError: As :func:`avsbench_f`, or if ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise InputError(f"batch_size ({batch_size}) must be at least 1.")
    p, target = _same_size(scores, truth, sigmoid)
    batches = zip(p.split(batch_size), target.split(batch_size), strict=True)
    return float(np.mean([_best(_f_curves(*batch)) for batch in batches]))


def _same_size(scores: Array, truth: Array, sigmoid: bool) -> tuple[Tensor, Tensor]:
    """(N, H, W) probabilities and truth."""
    values, target = as_pair("scores", scores, truth)
    if values.shape != target.shape:
        raise InputError(
            f"scores {tuple(values.shape[1:])} must have the size of truth {tuple(target.shape[1:])}: resize them."
        )
    if sigmoid:
        return values.sigmoid(), target
    if values.min() < 0 or values.max() > 1:
        raise InputError(
            "scores must be probabilities in [0, 1] where sigmoid=False, "
            f"got {values.min().item():g} to {values.max().item():g}."
        )
    return values, target


def _f_curves(p: Tensor, truth: Tensor) -> list[np.ndarray]:
    """(K,) of each picture whose truth is not empty."""
    curves = []
    for scores, target in zip(p.flatten(1).cpu().numpy(), truth.flatten(1).cpu().numpy(), strict=True):
        area = target.sum(dtype=np.float64)
        if area > 0:
            counts, hits = passing(scores, target, F_THRESHOLDS, strict=False)
            precision, recall = hits / np.maximum(counts, 1), hits / area
            below = BETA_SQUARED * precision + recall
            curves.append((1 + BETA_SQUARED) * precision * recall / np.where(below > 0, below, 1))
    return curves


def _best(curves: list[np.ndarray]) -> float:
    return float(np.mean(curves, axis=0).max()) if curves else 0.0
