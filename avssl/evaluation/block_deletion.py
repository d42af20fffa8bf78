"""Scores of a network without one of its blocks: inside and outside of block structure.

Nguyen, Raghu and Kornblith, 2021, https://arxiv.org/abs/2010.15327, find that blocks inside a block structure can be
deleted at little cost, and others cannot.

Dimensions: N clips, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors

from avssl.core.errors import InputError

Side = Literal["inside", "outside"]
"""In a found block structure, or in none."""


class MeanChange(NamedTuple):
    """Effect of deleting blocks one at a time."""

    num_blocks: int
    """Number of deleted blocks."""
    change: dict[str, float]
    """Mean over them of each score minus that of the whole network; NaN without blocks."""


def is_inside(place: int, found: Sequence[tuple[int, int]]) -> bool:
    """Return True if a block, by its place in the encoder, is in a run of :func:`~avssl.evaluation.find_blocks`."""
    return any(start <= place < stop for start, stop in found)


def deletion_effects(
    names: Sequence[str],
    found: Sequence[tuple[int, int]],
    whole: Mapping[str, float],
    deleted: Mapping[str, Mapping[str, float]],
) -> dict[Side, MeanChange]:
    """Compare deletions inside of block structure with those outside.

    Args:
        names: Blocks of an encoder, in order.
        found: Runs of them, from :func:`~avssl.evaluation.find_blocks`.
        whole: Scores of the whole network.
        deleted: The same scores without each deleted block, by its name.

    Example:
        >>> whole, deleted = {"R@10": 0.5}, {"stage2.1": {"R@10": 0.25}}
        >>> effects = deletion_effects(["stage1.1", "stage2.1"], [], whole, deleted)
        >>> effects["outside"].change["R@10"]
        -0.25
    """
    sides: dict[Side, list[str]] = {"inside": [], "outside": []}
    for name in deleted:
        sides["inside" if is_inside(list(names).index(name), found) else "outside"].append(name)
    return {
        side: MeanChange(
            len(own),
            {
                score: float(np.mean([deleted[name][score] - value for name in own])) if own else float("nan")
                for score, value in whole.items()
            },
        )
        for side, own in sides.items()
    }


def kept_neighbors(before: np.ndarray, after: np.ndarray, k: int = 10) -> float:
    """Return the share of each clip's k nearest clips that are still among its k nearest, mean over the clips.

    By chance it is ``k / (N - 1)``.

    Args:
        before: (N, F) float of any scale; distances are cosine distances.
        after: (N, F') float of the same clips in the same order.
        k: Number of neighbors, at least 1 and less than N.

    Raises:
        ValueError: If the numbers of clips differ, or ``k`` is out of range.

    Example:
        >>> before = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])  # two pairs of neighbors
        >>> kept_neighbors(before, 3 * before, k=1), kept_neighbors(before, before[[0, 2, 1, 3]], k=1)
        (1.0, 0.0)
    """
    if len(before) != len(after) or not 1 <= k < len(before):
        raise InputError(
            f"before and after must hold the same clips, more than k ({k}), got {len(before)} and {len(after)}."
        )
    near = [_neighbors(features, k) for features in (before, after)]
    shared = [len(np.intersect1d(*pair)) for pair in zip(*near, strict=True)]
    return float(np.mean(shared) / k)


def _neighbors(features: np.ndarray, k: int) -> np.ndarray:
    """Return the (N, k) nearest other clips of each clip."""
    index = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(features)
    found: np.ndarray = index.kneighbors(return_distance=False)
    return found
