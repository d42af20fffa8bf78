"""K-means against scikit-learn, by hand, and with clusters that lose their points."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import KMeans

from avssl.core.draws import text_keys
from avssl.objectives.k_means import first_labels, k_means, nearest_centers


def _blobs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """90 points around three centers, their groups and keys."""
    group = torch.arange(90) % 3
    centers = torch.tensor([[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]])
    points = centers[group] + torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    return points, group, text_keys([str(number) for number in range(90)])


def test_k_means_equals_scikit_learn_from_the_same_centers() -> None:
    points, _, _ = _blobs()
    start = points[:5]
    theirs = KMeans(5, init=start.numpy(), n_init=1, max_iter=100, tol=0, algorithm="lloyd").fit(points.numpy())
    ours = k_means(points, nearest_centers(points, start), 5, iterations=100)
    np.testing.assert_array_equal(ours.numpy(), theirs.labels_)


def test_first_labels_are_a_function_of_points_and_keys_and_find_far_groups() -> None:
    points, group, keys = _blobs()
    labels = first_labels(points, keys, 3)
    assert torch.equal(labels, first_labels(points, keys, 3))
    final = k_means(points, labels, 3, iterations=50)
    for number in range(3):
        assert len(final[group == number].mode().values.reshape(-1)) == 1
        assert (final[group == number] == final[group == number].mode().values).float().mean() > 0.9
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first_labels(points[order], keys[order], 3), labels[order])


def test_points_without_a_label_and_clusters_without_a_point_are_filled() -> None:
    points = torch.tensor([[0.0], [0.1], [5.0], [5.1], [5.2], [9.0]])
    # The point furthest from its mean starts the empty cluster.
    assert k_means(points, torch.tensor([0, 0, 1, 1, -1, 1]), 3, iterations=10).tolist() == [0, 0, 1, 1, 1, 2]
