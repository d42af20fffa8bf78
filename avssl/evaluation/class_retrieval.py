"""Cross-modal retrieval by class: does audio retrieve video of its class, and the other way round?

Every clip of one modality is a query among all clips of the other; those of its class are right, its own clip
included. The usual sets have five clips of each class.

Dimensions: N clips, D embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from avssl.core.errors import InputError
from avssl.evaluation.arrays import finite_array
from avssl.evaluation.classification import mean_average_precision
from avssl.evaluation.labeled_features import label_array
from avssl.evaluation.top_k import DECIMALS, top_k


@dataclass(frozen=True, eq=False)
class ClassRetrieval:
    """Scores of one direction.

    Example:
        >>> video, labels = np.eye(2)[[0, 0, 1, 1]], ["dog", "dog", "cat", "cat"]
        >>> found = class_retrieval(video, video, labels, ks=(1, 3))
        >>> found.mean_average_precision, found.precision[1].tolist(), found.gallery_size
        (1.0, [1.0, 1.0, 1.0, 1.0], 4)
    """

    average_precision: np.ndarray
    """(N,) average precision of each query, in [0, 1]."""
    precision: dict[int, np.ndarray]
    """(N,) share of right items in the top k, by k."""
    gallery_size: int
    """N."""

    @property
    def mean_average_precision(self) -> float:
        """Mean over the queries (mAP)."""
        return float(self.average_precision.mean())


def class_retrieval(
    queries: np.ndarray, gallery: np.ndarray, labels: Sequence[str | int] | np.ndarray, *, ks: Sequence[int] = (1, 5)
) -> ClassRetrieval:
    """Rank the gallery by cosine for every query.

    Args:
        queries: (N, D) embeddings of one modality, of any scale.
        gallery: (N, D) embeddings of the other modality of the same clips, in the same order.
        labels: N strings or ints.
        ks: Lengths of the top of the ranking, >= 1; a k above N means all.

    Raises:
        ValueError: If shapes differ, a value is not finite, a label is empty, or a k is below 1.

    Example:
        >>> video, labels = np.eye(2)[[0, 0, 1, 1]], ["dog", "dog", "cat", "cat"]
        >>> class_retrieval(video, video, labels).average_precision
        array([1., 1., 1., 1.])
        >>> class_retrieval(video, 1 - video, labels).average_precision  # cats for dogs: 2 right of 4
        array([0.5, 0.5, 0.5, 0.5])
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
    found = top_k(cosine, torch.from_numpy(right), ks)
    # Each query is a column in place of a class.
    _, precisions = mean_average_precision(cosine.round(decimals=DECIMALS).T.numpy(), right.T)
    by_k = {k: top.precision() for k, top in zip(ks, found, strict=True)}
    return ClassRetrieval(precisions, by_k, len(names))


def chance_average_precision(right: int, items: int) -> float:
    """Return the expected average precision of ``items`` in random order, ``right`` of which are right.

    This is (H + (items - H) (right - 1) / (items - 1)) / items with H the harmonic number of ``items``: rank i holds
    a right item with probability right / items, and given that, each earlier rank with (right - 1) / (items - 1).

    Args:
        right: Number of right items.
        items: Number of items, >= ``right``.

    Returns:
        A number in (0, 1].

    Raises:
        ValueError: If ``right`` is not between 1 and ``items``.

    Example:
        >>> chance_average_precision(right=1, items=2)  # at rank 1 or 2: (1 + 1/2) / 2
        0.75
    """
    if not 1 <= right <= items:
        raise InputError(f"right ({right}) must be between 1 and items ({items}).")
    harmonic = float((1 / np.arange(1, items + 1)).sum())
    return (harmonic + (items - harmonic) * (right - 1) / max(1, items - 1)) / items
