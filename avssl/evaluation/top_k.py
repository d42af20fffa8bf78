"""The top k of rankings in which several items may be right and some may be tied.

scikit-learn and torchmetrics break ties by position. Here ties count in expectation over their random order, so an
encoder that has collapsed to one point scores chance. Scores are rounded to :data:`DECIMALS`, because float32 features
are not more accurate.

Dimensions: Q queries, G items of the gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom
from torch import Tensor

from avssl.core.errors import InputError

DECIMALS = 6
"""Digits of cosines, and of squared distances between unit vectors."""


@dataclass(frozen=True, eq=False)
class TopK:
    """Counts in the top ``k`` of each query's ranking; (Q,) int64 each."""

    k: int
    """Length, at most G."""
    right_above: np.ndarray
    """Right items above the tie at rank k."""
    open_ranks: np.ndarray
    """Ranks up to k that the tied items compete for, >= 1."""
    tied: np.ndarray
    """Items in the tie."""
    tied_right: np.ndarray
    """Right items in the tie."""

    def precision(self) -> np.ndarray:
        """Return the (Q,) expected share of right items in the top ``k``."""
        return (self.right_above + self.open_ranks * self.tied_right / self.tied) / self.k

    def hit(self) -> np.ndarray:
        """Return the (Q,) probability that the top ``k`` holds a right item."""
        return np.where(self.right_above > 0, 1.0, chance_of_hit(self.tied_right, self.tied, self.open_ranks))


def top_k(scores: Tensor, right: Tensor, ks: Sequence[int]) -> list[TopK]:
    """Return a :class:`TopK` for each of ``ks``; a k above G means the whole gallery.

    Args:
        scores: (Q, G) float64, higher is nearer.
        right: (Q, G) bool.
        ks: Numbers of items, >= 1.

    Raises:
        ValueError: If one of ``ks`` is below 1.
    """
    if min(ks) < 1:
        raise InputError(f"ks must be at least 1, got {tuple(ks)}.")
    ks = [min(k, scores.shape[1]) for k in ks]
    scores = scores.round(decimals=DECIMALS)
    best = scores.topk(max(ks), dim=1).values
    found = []
    for k in ks:
        limit = best[:, k - 1 : k]
        above, tie = scores > limit, scores == limit
        parts = (above & right, above, tie, tie & right)
        right_above, num_above, tied, tied_right = (part.sum(dim=1).cpu().numpy() for part in parts)
        found.append(TopK(k, right_above, k - num_above, tied, tied_right))
    return found


def chance_of_hit(right: np.ndarray, items: np.ndarray | int, draws: np.ndarray | int) -> np.ndarray:
    """Return the probability that ``draws`` of ``items``, without replacement, hold one of the ``right``."""
    return 1.0 - hypergeom.pmf(0, items, right, draws)
