"""From the cIoU of samples to the numbers of a table: success, the area under its curve, and pairs.

Sources: success and area, Senocak et al., CVPR 2018; IIoU and IAUC, Senocak et al., TPAMI 2025.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.localization.arrays import Array, as_scores

SUCCESS = 0.5
"""cIoU from which a sample counts as localized."""

THRESHOLDS = tuple(0.05 * i for i in range(21))
"""Of the curves. 0.05 * 3 is above 0.15 in double, and the released evaluators compare with it."""

Groups = Sequence[int | str | None] | np.ndarray | Tensor
"""N ids, equal for the sounds of one picture; negative, "" or None where a sample belongs to no group."""


def success(scores: Array | Sequence[float] | float, at: float = SUCCESS) -> float:
    """Share of cIoU values that reach ``at`` (``>=``): the field's "cIoU".

    Args:
        scores: (N,) cIoUs in [0, 1].
        at: The least value that counts.

    Raises:
        ValueError: If there is no score or one is NaN.

    Example:
        >>> success([0.5, 0.49, 1.0, 0.0])
        0.5
    """
    return float((as_scores("scores", scores) >= at).mean())


def auc(scores: Array | Sequence[float] | float) -> float:
    """Area under the share of scores that reach 0.05 i, i = 0 ... 20, by the trapezoid rule.

    The thresholds are products in double: 0.05 * 3 is 0.15000000000000002, which a score of 0.15 does not
    reach. Seven of the twenty-one values i / 20 lose a step in this way.

    Args:
        scores: (N,) cIoUs in [0, 1].

    Returns:
        A number in [0, 1]; 0.025 where every score is 0.

    Raises:
        ValueError: If there is no score or one is NaN.

    Example:
        >>> round(auc([0.15]), 6), round(auc([0.1501]), 6)
        (0.125, 0.175)
    """
    values = as_scores("scores", scores)
    return area([float((values >= threshold).mean()) for threshold in THRESHOLDS])


def area(curve: Sequence[float]) -> float:
    """By the trapezoid rule, of values at :data:`THRESHOLDS`."""
    heights, places = (torch.tensor(values, dtype=torch.float64) for values in (curve, THRESHOLDS))
    return torch.trapezoid(heights, places).item()


@dataclass(frozen=True)
class Interactive:
    """Of pictures with several sounds: whether the map follows each of them."""

    iiou: float
    """Share of groups in which every sample reaches the success threshold."""
    iauc: float
    """Area under that share over :data:`THRESHOLDS`."""
    num_groups: int
    """Of one member or more; one alone says nothing about listening."""


def interactive(scores: Array | Sequence[float], groups: Groups, at: float = SUCCESS) -> Interactive:
    """IIoU and IAUC: a picture counts only if the map of **every** one of its sounds reaches the threshold.

    Args:
        scores: (N,) cIoUs of one picture with one sound each; under the rule ``adaptive`` the results are
            what is called IIoU_adap and IAUC_adap.
        groups: N ids, equal for the sounds of one picture; rows whose id is negative, "" or None belong
            to no group and are left out.
        at: The success threshold of IIoU.

    Raises:
        ValueError: If the lengths differ, no row belongs to a group, or a score is NaN.

    Example:
        >>> interactive([0.9, 0.4, 0.6, 0.5], ["a", "a", "b", "b"]).iiou
        0.5
    """
    worst = group_minimum(scores, groups)
    if len(worst) == 0:
        raise InputError("groups name no group: every id is negative, empty or None.")
    return Interactive(success(worst, at), auc(worst), len(worst))


def group_minimum(scores: Array | Sequence[float], groups: Groups) -> np.ndarray:
    """The worst score of each group: a group passes a threshold only if every member does.

    Args:
        scores: (N,) numbers.
        groups: As in :func:`interactive`.

    Returns:
        (G,) float64, in the order of the groups' first rows; empty if no row belongs to one.

    Raises:
        ValueError: If the lengths differ or a score is NaN.
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
