"""The first k places of rankings in which several items are right and some may be tied.

Ties count in expectation over their random order: an encoder that has collapsed to one point scores
chance. Scores are rounded to :data:`DECIMALS`, as float32 features are not known to better.

Dimensions: Q queries, G items of the gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln
from torch import Tensor

from avssl.core.errors import InputError

DECIMALS = 6
"""Of cosines and squared distances between unit vectors."""


@dataclass(frozen=True, eq=False)
class FirstPlaces:
    """What is known of the first ``k`` places of each query's ranking; (Q,) float64 each."""

    k: int
    """Places, at most G."""
    sure: np.ndarray
    """Right items that stand there in any order of the ties."""
    places: np.ndarray
    """Places that the tie around place k fills, >= 1."""
    tied: np.ndarray
    """Items in that tie."""
    tied_right: np.ndarray
    """Right items in that tie."""

    def precision(self) -> np.ndarray:
        """(Q,) expected share of right items among the first ``k``."""
        return (self.sure + self.places * self.tied_right / self.tied) / self.k

    def hit(self) -> np.ndarray:
        """(Q,) chance that at least one of the first ``k`` is right."""
        return np.where(self.sure > 0, 1.0, chance_of_hit(self.tied_right, self.tied, self.places))


def first_places(scores: Tensor, right: Tensor, ks: Sequence[int]) -> list[FirstPlaces]:
    """:class:`FirstPlaces` for each of ``ks``; one beyond the gallery means all of it.

    Args:
        scores: (Q, G) float64, higher is nearer.
        right: (Q, G) bool.
        ks: Numbers of places, >= 1.

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
        before, tie = scores > limit, scores == limit
        counts = (before & right, before, tie, tie & right)
        sure, ahead, tied, tied_right = (part.sum(dim=1).double().cpu().numpy() for part in counts)
        found.append(FirstPlaces(k, sure, k - ahead, tied, tied_right))
    return found


def chance_of_hit(right: np.ndarray, items: np.ndarray | int, places: np.ndarray | int) -> np.ndarray:
    """The chance that a random draw of ``places`` out of ``items`` holds one of the ``right``.

    1 - C(items - right, places) / C(items, places), elementwise.
    """
    wrong = np.asarray(items, dtype=np.float64) - right
    possible = wrong >= places
    wrong = np.where(possible, wrong, places)  # where every draw holds one, the logarithms below do not exist
    log_miss = gammaln(wrong + 1) - gammaln(wrong - places + 1)
    log_miss -= gammaln(np.asarray(items) + 1.0) - gammaln(np.asarray(items) - places + 1.0)
    return np.where(possible, -np.expm1(log_miss), 1.0)
