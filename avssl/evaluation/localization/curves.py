"""Success rate, the area under its curve, and scores of interactive groups, from the cIoU of samples.

Sources: success and area, Senocak et al., CVPR 2018; IIoU and IAUC, Senocak et al., TPAMI 2025.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.integrate import trapezoid
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.localization.arrays import Array, as_scores

SUCCESS = 0.5
"""Smallest cIoU of a localized sample."""

THRESHOLDS = tuple(0.05 * i for i in range(21))
"""Thresholds of the curves. 0.05 * 3 is above 0.15 in float64, as in the released evaluators."""

Groups = Sequence[int | str | None] | np.ndarray | Tensor
"""N ids, equal for the sounds of one image; negative, "" or None for samples without a group."""


def success(scores: Array | Sequence[float] | float, at: float = SUCCESS) -> float:
    """Return the share of cIoU values >= ``at``, the "cIoU" of published tables.

    Args:
        scores: (N,) cIoUs in [0, 1].
        at: Smallest cIoU that counts.

    Raises:
        ValueError: If there is no score or one is NaN.

    Example:
        >>> success([0.5, 0.49, 1.0, 0.0])
        0.5
    """
    return float((as_scores("scores", scores) >= at).mean())


def auc(scores: Array | Sequence[float] | float) -> float:
    """Return the area under the share of scores >= 0.05 i, i = 0 ... 20, by the trapezoid rule.

    The thresholds are float64 products: 0.05 * 3 is 0.15000000000000002, so a score of 0.15 does not reach it.
    This affects seven of the twenty-one thresholds.

    Args:
        scores: (N,) cIoUs in [0, 1].

    Returns:
        A number in [0, 1]; 0.025 if every score is 0.

    Raises:
        ValueError: If there is no score or one is NaN.

    Example:
        >>> round(auc([0.15]), 6), round(auc([0.1501]), 6)
        (0.125, 0.175)
    """
    values = as_scores("scores", scores)
    return area([float((values >= threshold).mean()) for threshold in THRESHOLDS])


def area(curve: Sequence[float]) -> float:
    """Return the area under values at :data:`THRESHOLDS` by the trapezoid rule."""
    return float(trapezoid(curve, THRESHOLDS))


@dataclass(frozen=True)
class InteractiveScores:
    """Scores of images with several sounds: does the map follow each of them?

    Example:
        >>> scores = interactive([0.9, 0.4, 0.6, 0.5], ["a", "a", "b", "b"])
        >>> scores.iiou, round(scores.iauc, 4), scores.num_groups  # the lowest of the groups are 0.4 and 0.5
        (0.5, 0.475, 2)
    """

    iiou: float
    """Share of groups in which every sample reaches the success threshold."""
    iauc: float
    """Area under that share over :data:`THRESHOLDS`."""
    num_groups: int
    """Number of groups; a group with one member does not test the use of the audio."""


def interactive(scores: Array | Sequence[float], groups: Groups, at: float = SUCCESS) -> InteractiveScores:
    """Compute IIoU and IAUC: an image counts only if the maps of **all** its sounds reach the threshold.

    Args:
        scores: (N,) cIoUs of an image with one of its sounds; with the rule ``adaptive`` the results are
            called IIoU_adap and IAUC_adap.
        groups: N ids, equal for the sounds of one image; rows with a negative id, "" or None are left out.
        at: Success threshold of IIoU.

    Raises:
        ValueError: If the lengths differ, no row belongs to a group, or a score is NaN.

    Example:
        >>> interactive([0.9, 0.4, 0.6, 0.5], ["a", "a", "b", "b"]).iiou
        0.5
    """
    worst = group_minimum(scores, groups)
    if len(worst) == 0:
        raise InputError("groups name no group: every id is negative, empty or None.")
    return InteractiveScores(success(worst, at), auc(worst), len(worst))


def group_minimum(scores: Array | Sequence[float], groups: Groups) -> np.ndarray:
    """Return the lowest score of each group.

    Args:
        scores: (N,) numbers.
        groups: As in :func:`interactive`.

    Returns:
        (G,) float64, in the order of the groups' first rows; empty if no row belongs to one.

    Raises:
        ValueError: If the lengths differ or a score is NaN.

    Example:
        >>> group_minimum([0.9, 0.4, 0.6, 0.2], ["a", "a", "b", None])
        array([0.4, 0.6])
    """
    values = as_scores("scores", scores)
    ids: list[Hashable] = groups.tolist() if isinstance(groups, Tensor | np.ndarray) else list(groups)
    if len(ids) != len(values):
        raise InputError(f"groups hold {len(ids)} ids but there are {len(values)} samples.")
    worst: dict[Hashable, float] = {}
    for group, value in zip(ids, values.tolist(), strict=True):
        if group is None or group == "" or (isinstance(group, int | float) and group < 0):
            continue
        worst[group] = min(value, worst.get(group, value))
    return np.array(list(worst.values()), dtype=np.float64)
