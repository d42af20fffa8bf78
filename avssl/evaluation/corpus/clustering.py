"""K-means on a sample of unit vectors, and the assignment of all of them in blocks.

Dimensions: N vectors, K centers, C vector size.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import adjusted_mutual_info_score
from torch import Tensor

from avssl.core.errors import InputError

BLOCK_ROWS = 2**10
"""Rows that are compared with a thousand others at a time: 4 MB of float32, which stay in the cache of a core."""
_SAMPLES_PER_CENTER = 128
_LEAST_SAMPLES = 2**15


def find_centers(vectors: np.ndarray, num_centers: int, seed: int = 0) -> np.ndarray:
    """Return (K, C) float32 centers of a sample of the vectors, found by mini-batch k-means.

    Source: Sculley, Web-scale k-means clustering, WWW 2010, as in scikit-learn.

    Args:
        vectors: (N, C) float32.
        num_centers: K, in [1, N].
        seed: Random seed of the sample and of the centers that it starts with.

    Raises:
        InputError: If there are fewer vectors than centers.
    """
    if not 1 <= num_centers <= len(vectors):
        raise InputError(f"num_clusters ({num_centers}) must lie in [1, {len(vectors)}], the number of vectors.")
    count = max(_LEAST_SAMPLES, _SAMPLES_PER_CENTER * num_centers)
    sample = vectors
    if count < len(vectors):
        sample = vectors[np.sort(np.random.default_rng(seed).choice(len(vectors), count, replace=False))]
    means = MiniBatchKMeans(num_centers, random_state=seed, n_init=3, batch_size=4096, max_iter=30)
    centers: np.ndarray = means.fit(sample).cluster_centers_.astype(np.float32)
    return centers


def nearest_centers(vectors: np.ndarray, centers: np.ndarray, count: int = 1) -> np.ndarray:
    """Return (N, count) int64: the nearest centers of each vector, nearest first, computed in blocks of rows."""
    columns = torch.from_numpy(centers)
    offsets = columns.square().sum(dim=1) / 2  # |x - c|^2 = |x|^2 - 2 (x c - |c|^2 / 2)
    found = [_top(block @ columns.T - offsets, count) for block in torch.from_numpy(vectors).split(BLOCK_ROWS)]
    return torch.cat(found).numpy()


def _top(scores: Tensor, count: int) -> Tensor:
    return scores.topk(count, dim=1).indices


def cluster(vectors: np.ndarray, num_clusters: int, seed: int = 0, among: np.ndarray | None = None) -> np.ndarray:
    """Return the (N,) int64 cluster of each vector by :func:`find_centers`; 0 is the largest.

    Args:
        vectors: (N, C) float32.
        num_clusters: K, in [1, N]; a cluster that no vector is nearest to has the last numbers.
        seed: As for :func:`find_centers`.
        among: (N,) bool mask of the vectors that the centers are found in; None takes all.

    Raises:
        InputError: If there are fewer vectors than centers.
    """
    sample = vectors if among is None else vectors[among]
    nearest = nearest_centers(vectors, find_centers(sample, num_clusters, seed))[:, 0]
    order = np.argsort(-np.bincount(nearest, minlength=num_clusters), kind="stable")
    number = np.empty(num_clusters, dtype=np.int64)
    number[order] = np.arange(num_clusters)
    renumbered: np.ndarray = number[nearest]
    return renumbered


def label_agreement(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Return the mutual information of (N,) clusters and (N,) labels, adjusted: 1 if they are equal, 0 by chance.

    Source: Vinh, Epps and Bailey, JMLR 2010, as in scikit-learn.
    """
    return float(adjusted_mutual_info_score(labels, clusters))


def medoids(
    vectors: np.ndarray, clusters: np.ndarray, num_clusters: int, count: int = 1, among: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return the most central members of each cluster: those with the largest mean cosine with all its members.

    The sum of a unit vector's cosines with all members is its product with their sum, so no pairs are needed.

    Args:
        vectors: (N, C) unit vectors.
        clusters: (N,) cluster of each vector.
        num_clusters: K.
        count: Members to return of each cluster, at most.
        among: (N,) bool mask of the vectors that may be returned; None allows all.
    """
    found = []
    for cluster in range(num_clusters):
        members = np.flatnonzero(clusters == cluster)
        block = vectors[members]
        order = np.argsort(-(block @ block.sum(axis=0, dtype=np.float64)), kind="stable")
        ranked = members[order]
        found.append((ranked if among is None else ranked[among[ranked]])[:count])
    return found
