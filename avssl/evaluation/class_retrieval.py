"""Retrieval across the modalities by class: does a sound find pictures of its kind, and back?

For a set with as many clips of each class (five in the usual sets), every sound is a query among the pictures of all
clips, and those of its class are right, its own clip's included.

Dimensions: N clips, D embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from avssl.core.errors import InputError
from avssl.evaluation.checked import finite_array
from avssl.evaluation.classification import mean_average_precision
from avssl.evaluation.ranked import DECIMALS, first_places
from avssl.evaluation.scored import label_array


@dataclass(frozen=True, eq=False)
class ClassRetrieval:
    """One direction."""

    average_precision: np.ndarray
    """(N,) of each query's ranking, in [0, 1]."""
    precision: dict[int, np.ndarray]
    """By k: (N,) share of right items among the first k."""
    gallery_size: int
    """N."""

    @property
    def mean_average_precision(self) -> float:
        """mAP: the mean over the queries."""
        return float(self.average_precision.mean())


def class_retrieval(
    queries: np.ndarray, gallery: np.ndarray, labels: Sequence[str | int] | np.ndarray, *, ks: Sequence[int] = (1, 5)
) -> ClassRetrieval:
    """Ranks the gallery by cosine for every query.

    Args:
        queries: (N, D) embeddings of one modality, of any scale.
        gallery: (N, D) embeddings of the other modality of the same clips, in the same order.
        labels: N strings or ints.
        ks: Numbers of first places, >= 1; one beyond N means all.

    Raises:
        ValueError: If shapes differ, a value is not finite, a label is empty, or a k is below 1.
    """
    a, b = finite_array("queries", queries, "(N, D)"), finite_array("gallery", gallery, "(N, D)")
    names = label_array("labels", labels)
    if a.shape != b.shape or len(a) != len(names):
        raise InputError(
            "queries, gallery and labels must be of the same clips in the same order, "
            f"got {a.shape}, {b.shape} and {len(names)} labels."
        )
    cosine = F.normalize(torch.from_numpy(a), dim=1) @ F.normalize(torch.from_numpy(b), dim=1).T
    right = names[:, None] == names[None]
    found = first_places(cosine, torch.from_numpy(right), ks)
    # Each query is a column, as a class would be.
    _, precisions = mean_average_precision(cosine.round(decimals=DECIMALS).T.numpy(), right.T)
    by_k = {k: places.precision() for k, places in zip(ks, found, strict=True)}
    return ClassRetrieval(precisions, by_k, len(names))


def chance_average_precision(right: int, items: int) -> float:
    """Expected average precision of ``items`` in random order, ``right`` of which are right.

    (H + (items - H) (right - 1) / (items - 1)) / items, where H is the harmonic number of ``items``: place i holds a
    right item with probability right / items, and each other place before it one with (right - 1) / (items - 1).
    """
    if not 1 <= right <= items:
        raise InputError(f"right ({right}) must be between 1 and items ({items}).")
    harmonic = float((1 / np.arange(1, items + 1)).sum())
    return (harmonic + (items - harmonic) * (right - 1) / max(1, items - 1)) / items
