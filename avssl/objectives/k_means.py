"""K-means on the device, with the same result on every rank and in every run; points may be divided over ranks.

Source: Lloyd, 1982, https://doi.org/10.1109/TIT.1982.1056489, with the start of Arthur and Vassilvitskii, SODA 2007
(k-means++). Sums are products with a matrix of zeros and ones, because sums by index vary on a GPU.

Dimensions: M points, K clusters, D size of a point.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.distributed import any_true, gather_together, total
from avssl.core.draws import uniform

# The distances and memberships of a block take at most 64 MiB each in float32.
_MOST_ELEMENTS = 2**24


def first_labels(points: Tensor, keys: Tensor, num_clusters: int, *, divided: bool = False) -> Tensor:
    """Return the (M,) int64 nearest of K points that are far from each other.

    Each of the K is drawn with a probability proportional to its squared distance to the nearest so far.

    Args:
        points: ``(M, D)`` float, M >= K.
        keys: ``(M,)`` int64 random keys of the points, from which all draws follow.
        num_clusters: K.
        divided: The points of every rank are others; else all ranks have the same.
    """

    def highest(scores: Tensor) -> Tensor:
        contenders, theirs = _contenders(points, scores, 1, divided)
        return contenders[theirs.argmax()]

    chosen = [highest(uniform(keys, "k_means/0", 1)[:, 0])]
    nearest = points.new_full((len(points),), torch.inf)
    for number in range(1, num_clusters):
        nearest = torch.minimum(nearest, (points - chosen[-1]).square().sum(dim=1))
        # The shortest of exponential waiting times is that of point i with a probability proportional to its rate.
        wait = -torch.log(uniform(keys, f"k_means/{number}", 1)[:, 0].clamp_min(2.0**-54))
        chosen.append(highest(nearest.double() / wait.clamp_min(1e-300)))
    return nearest_centers(points, torch.stack(chosen))


def k_means(points: Tensor, labels: Tensor, num_clusters: int, iterations: int, *, divided: bool = False) -> Tensor:
    """Label points by the nearest mean of the points of a label, until no label changes.

    A label without points continues at the point that is furthest from the mean of its own label.

    Args:
        points: ``(M, D)`` float.
        labels: ``(M,)`` int64 in [0, K) to start from, or negative for points without one; some must have one.
        num_clusters: K, at most M.
        iterations: Largest number of times that the means are moved, >= 1.
        divided: The points of every rank are others; else all ranks have the same.

    Returns:
        ``(M,)`` int64 labels.
    """
    for _ in range(iterations):
        before, labels = labels, nearest_centers(points, _centers(points, labels, num_clusters, divided))
        has_changed = not torch.equal(before, labels)
        if not (any_true(has_changed) if divided else has_changed):
            break
    return labels


def nearest_centers(points: Tensor, centers: Tensor) -> Tensor:
    """Return the (M,) int64 nearest of (K, D) centers to each of (M, D) points."""
    offset = centers.square().sum(dim=1) / 2
    return torch.cat([(part @ centers.T - offset).argmax(dim=1) for part in points.split(_rows(len(centers)))])


def _centers(points: Tensor, labels: Tensor, num_clusters: int, divided: bool) -> Tensor:
    """Return the (K, D) means of the points of each label, and far points in place of missing means."""
    sums, counts = points.new_zeros(num_clusters, points.shape[1]), points.new_zeros(num_clusters)
    for part, own in zip(*(x.split(_rows(num_clusters)) for x in (points, labels)), strict=True):
        member = F.one_hot(own + 1, num_clusters + 1)[:, 1:].to(points)
        sums, counts = sums + member.T @ part, counts + member.sum(dim=0)
    if divided:
        sums, counts = total(sums), total(counts)
    means = sums / counts.clamp(min=1)[:, None]
    empty = (counts == 0).nonzero().squeeze(1)
    if len(empty):
        distances = (points - means[labels]).square().sum(dim=1).where(labels >= 0, 0)
        contenders, theirs = _contenders(points, distances, len(empty), divided)
        means[empty] = contenders[theirs.topk(len(empty)).indices]
    return means


def _contenders(points: Tensor, scores: Tensor, count: int, divided: bool) -> tuple[Tensor, Tensor]:
    """Return points, with their scores, among which are the ``count`` with the highest scores of all ranks."""
    if not divided:
        return points, scores
    own = scores.topk(min(count, len(points))).indices
    missing = count - len(own)
    points, scores = F.pad(points[own], (0, 0, 0, missing)), F.pad(scores[own], (0, missing), value=-torch.inf)
    points, scores = gather_together(points, scores)
    return points, scores


def _rows(num_clusters: int) -> int:
    return max(1, _MOST_ELEMENTS // num_clusters)
