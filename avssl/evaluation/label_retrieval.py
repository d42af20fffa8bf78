"""Retrieval by class: does a test video find training videos of its own class?

The protocol of UCF101 and HMDB51 nearest-neighbor retrieval in SeLaVi
(https://arxiv.org/abs/2006.13662) and others: features of several clips a video, each scaled to unit length,
their mean, Euclidean distance; a query is right at k if any of its k nearest training videos has its label.

Dimensions: M queries, N videos of the gallery, W clips of each, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.evaluation.ranked import chance_of_hit, first_places
from avssl.evaluation.scored import labeled_split

RETRIEVAL_KS = (1, 5, 10, 20, 50)
"""Numbers of neighbors of the published tables."""

_CHUNK = 1024  # queries at a time


@dataclass(frozen=True, eq=False)
class LabelRetrieval:
    """What the nearest neighbors say; by number k of neighbors."""

    hits: dict[int, np.ndarray]
    """(M,) chance in [0, 1] that one of a query's k nearest has its label: 0 or 1 unless there are ties."""
    chance: dict[int, float]
    """Mean over the queries of the same for a gallery in random order: frequent classes are easy to hit."""
    gallery_size: int
    """N."""

    @property
    def recall(self) -> dict[int, float]:
        """R@k: the mean of ``hits``."""
        return {k: float(values.mean()) for k, values in self.hits.items()}


def label_retrieval(
    gallery_windows: np.ndarray,
    gallery_labels: Sequence[str | int] | np.ndarray,
    query_windows: np.ndarray,
    query_labels: Sequence[str | int] | np.ndarray,
    *,
    ks: Sequence[int] = RETRIEVAL_KS,
) -> LabelRetrieval:
    """Queries test videos among training videos.

    Args:
        gallery_windows: (N, W, D) float features of training videos.
        gallery_labels: N strings or ints, at least two different.
        query_windows: (M, V, D) float features of test videos.
        query_labels: M strings or ints, each in the gallery.
        ks: Numbers of neighbors; one beyond N means all.

    Raises:
        ValueError: On windows and labels that do not fit (see :func:`linear_probe`), or a k below 1.
    """
    shape = "(videos, clips, features)"
    split = labeled_split(gallery_windows, gallery_labels, query_windows, query_labels, shape)
    gallery, queries = _mean_directions(split.train_x), _mean_directions(split.test_x)
    labels, wanted = torch.from_numpy(split.train_y), torch.from_numpy(split.test_y)
    parts: dict[int, list[np.ndarray]] = {k: [] for k in ks}
    for some, names in zip(queries.split(_CHUNK), wanted.split(_CHUNK), strict=True):
        found = first_places(-_squared_distances(some, gallery), names[:, None] == labels[None], ks)
        for k, places in zip(ks, found, strict=True):
            parts[k].append(places.hit())
    same_class = np.bincount(split.train_y)[split.test_y]
    size = len(labels)
    return LabelRetrieval(
        hits={k: np.concatenate(part) for k, part in parts.items()},
        chance={k: float(chance_of_hit(same_class, size, min(k, size)).mean()) for k in ks},
        gallery_size=size,
    )


def _mean_directions(windows: np.ndarray) -> Tensor:
    """(N, W, D) as (N, D): the mean of the unit vectors."""
    return F.normalize(torch.from_numpy(windows), dim=2).mean(dim=1)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(m, N), from products: a difference of all pairs would not fit into memory."""
    return a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)[None] - 2 * (a @ b.T)
