"""Retrieval by class within one modality: does a test video retrieve training videos of its class?

The protocol of UCF101 and HMDB51 nearest-neighbor retrieval in SeLaVi (https://arxiv.org/abs/2006.13662) and
others: features of several clips of a video are scaled to unit length and averaged, and compared by Euclidean
distance; a query is right at k if any of its k nearest training videos has its label.

Dimensions: M queries, N videos in the gallery, W clips of each, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.evaluation.labeled_features import labeled_split
from avssl.evaluation.top_k import chance_of_hit, top_k

RETRIEVAL_KS = (1, 5, 10, 20, 50)
"""Numbers of neighbors in published tables."""

_CHUNK = 1024  # queries at a time


@dataclass(frozen=True, eq=False)
class LabelRetrieval:
    """Scores by number k of neighbors.

    Example:
        >>> windows = np.eye(2)[:, None]  # two videos of one clip
        >>> found = label_retrieval(windows, ["run", "jump"], windows[[0, 0]] + 0.1, ["run", "jump"], ks=(1,))
        >>> found.hits[1].tolist(), found.recall[1], round(found.chance[1], 4)
        ([1.0, 0.0], 0.5, 0.5)
    """

    hits: dict[int, np.ndarray]
    """(M,) probability that one of a query's k nearest has its label: 0 or 1 unless there are ties."""
    chance: dict[int, float]
    """Mean of the same over the queries for a gallery in random order: frequent classes are easy to hit."""
    gallery_size: int
    """N."""

    @property
    def recall(self) -> dict[int, float]:
        """Mean of ``hits`` (R@k)."""
        return {k: float(values.mean()) for k, values in self.hits.items()}


def label_retrieval(
    gallery_windows: np.ndarray,
    gallery_labels: Sequence[str | int] | np.ndarray,
    query_windows: np.ndarray,
    query_labels: Sequence[str | int] | np.ndarray,
    *,
    ks: Sequence[int] = RETRIEVAL_KS,
) -> LabelRetrieval:
    """Retrieve training videos for test videos.

    Args:
        gallery_windows: (N, W, D) float features of training videos.
        gallery_labels: N strings or ints, at least two different.
        query_windows: (M, V, D) float features of test videos.
        query_labels: M strings or ints, that occur in the gallery.
        ks: Numbers of neighbors; a k above N means all.

    Raises:
        ValueError: On invalid features or labels (see :func:`linear_probe`), or a k below 1.

    Example:
        >>> windows = np.array([[[1.0, 0.0], [0.9, 0.1]], [[0.0, 1.0], [0.1, 0.9]]])  # two videos of two clips
        >>> label_retrieval(windows, ["run", "jump"], windows + 0.1, ["run", "jump"], ks=(1,)).recall
        {1: 1.0}
    """
    shape = "(videos, clips, features)"
    split = labeled_split(gallery_windows, gallery_labels, query_windows, query_labels, shape)
    gallery, queries = _mean_directions(split.train_x), _mean_directions(split.test_x)
    labels, wanted = torch.from_numpy(split.train_y), torch.from_numpy(split.test_y)
    parts: dict[int, list[np.ndarray]] = {k: [] for k in ks}
    for some, names in zip(queries.split(_CHUNK), wanted.split(_CHUNK), strict=True):
        found = top_k(-_squared_distances(some, gallery), names[:, None] == labels[None], ks)
        for k, top in zip(ks, found, strict=True):
            parts[k].append(top.hit())
    same_class = np.bincount(split.train_y)[split.test_y]
    size = len(labels)
    return LabelRetrieval(
        hits={k: np.concatenate(part) for k, part in parts.items()},
        chance={k: float(chance_of_hit(same_class, size, min(k, size)).mean()) for k in ks},
        gallery_size=size,
    )


def _mean_directions(windows: np.ndarray) -> Tensor:
    """Average the unit vectors of (N, W, D) to (N, D)."""
    return F.normalize(torch.from_numpy(windows), dim=2).mean(dim=1)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return (m, N) from inner products, because the differences of all pairs would not fit into memory."""
    return a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)[None] - 2 * (a @ b.T)
