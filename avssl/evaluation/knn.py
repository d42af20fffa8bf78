"""k nearest neighbors: what the geometry of frozen features says, with nothing trained.

Sources: the vote weighted by exp(cosine / temperature) is Wu et al., CVPR 2018,
https://arxiv.org/abs/1805.01978, section 3.4; without a temperature it is a plain majority.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.scored import Scored, labeled_split, scores_of

_CHUNK = 1024  # test clips at a time: 1024 x 240 000 float64 cosines are 2 GB


def knn_classifier(
    train_features: np.ndarray,
    train_labels: Sequence[str | int] | np.ndarray,
    test_features: np.ndarray,
    test_labels: Sequence[str | int] | np.ndarray,
    *,
    k: int = 20,
    temperature: float | None = 0.07,
) -> Scored:
    """Classifies test clips by their ``k`` nearest training clips in cosine.

    Args:
        train_features: (N, D) float of any scale; normalized here.
        train_labels: N strings or ints, at least two different.
        test_features: (M, D) float.
        test_labels: M strings or ints, each seen in training.
        k: Neighbors that vote, at most N. Wu et al. take 200 for a million clips.
        temperature: Of the weights exp(cosine / temperature), > 0; None counts votes. Equal sums go to
            the first class, as in scikit-learn.

    Raises:
        ValueError: On features and labels that do not fit (see :func:`linear_probe`), or ``k`` or
            ``temperature`` out of range.
    """
    split = labeled_split(train_features, train_labels, test_features, test_labels)
    if not 1 <= k <= len(split.train_y):
        raise InputError(f"k ({k}) must be between 1 and the number of training clips, {len(split.train_y)}.")
    if temperature is not None and not temperature > 0:
        raise InputError(f"temperature ({temperature}) must be greater than 0, or None to count votes.")
    gallery = F.normalize(torch.from_numpy(split.train_x), dim=1)
    queries = F.normalize(torch.from_numpy(split.test_x), dim=1)
    labels = torch.from_numpy(split.train_y)
    parts = [_votes(chunk, gallery, labels, k, temperature, len(split.classes)) for chunk in queries.split(_CHUNK)]
    return Scored(**scores_of(torch.cat(parts).numpy(), split.test_y, split.classes, len(labels)))


def _votes(
    queries: Tensor, gallery: Tensor, labels: Tensor, k: int, temperature: float | None, num_classes: int
) -> Tensor:
    """(m, K) sums of the weights of each class."""
    cosine, nearest = (queries @ gallery.T).topk(k, dim=1)
    if temperature is None:
        weights = torch.ones_like(cosine)
    else:  # relative to the nearest, as exp(1 / temperature) overflows below a temperature of 0.0014
        weights = ((cosine - cosine[:, :1]) / temperature).exp()
    return queries.new_zeros(len(queries), num_classes).scatter_add_(1, labels[nearest], weights)
