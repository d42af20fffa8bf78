"""Compare clips by the similarities of their moments, and retrieve by them.

Source: the aggregations of CAV-MAE Sync (Araujo et al., CVPR 2025), https://arxiv.org/abs/2505.01237: a video and an
audio have a matrix of cosines, of each frame with the audio at each time::

               audio 0  1  2
    frame 0          d  .  .       mean            of all entries
    frame 1          .  d  .       max             the largest entry
    frame 2          .  .  d       diagonal_mean   of the entries of equal time (d)
                                   diagonal_max    the largest of them

Dimensions: N queries, M items of the gallery, T moments of a clip, D embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.retrieval import ranks_of_scores, recall_of_ranks

Aggregation = Literal["mean", "max", "diagonal_mean", "diagonal_max"]
"""Rule that makes one similarity of those between the moments of two clips; see :func:`moment_similarity`."""
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
"""All rules, in this order: mean, max, diagonal_mean, diagonal_max."""

_CHUNK_ELEMENTS = 2**24  # cosines at a time: 64 MB in float32


def moment_similarity(queries: Tensor, gallery: Tensor, aggregation: Aggregation) -> Tensor:
    """Return the (N, M) similarities of clips from the cosines of their moments.

    Args:
        queries: (N, T, D) float, of any scale.
        gallery: (M, T, D) float; moment t is at the time of moment t of a query.
        aggregation: One of :data:`AGGREGATIONS`.

    Raises:
        ValueError: If the shapes do not agree, or the aggregation is unknown.

    Example:
        >>> video = torch.eye(2)[None]
        >>> audio = video.flip(1)  # the same moments in the other order
        >>> moment_similarity(video, audio, "max").item(), moment_similarity(video, audio, "diagonal_max").item()
        (1.0, 0.0)
    """
    if aggregation not in AGGREGATIONS:
        raise InputError(f"aggregation ({aggregation!r}) must be one of {', '.join(AGGREGATIONS)}.")
    if queries.ndim != 3 or gallery.ndim != 3 or queries.shape[1:] != gallery.shape[1:] or not queries.shape[1]:
        raise InputError(
            "queries (N, T, D) and gallery (M, T, D) must have the same moments, "
            f"got {tuple(queries.shape)} and {tuple(gallery.shape)}."
        )
    queries, gallery = F.normalize(queries.float(), dim=2), F.normalize(gallery.float(), dim=2)
    if aggregation == "mean":
        return queries.mean(dim=1) @ gallery.mean(dim=1).T
    if aggregation == "diagonal_mean":
        return queries.flatten(1) @ gallery.flatten(1).T / queries.shape[1]
    num_cosines = len(gallery) * queries.shape[1] ** (2 if aggregation == "max" else 1)
    parts = queries.split(max(1, _CHUNK_ELEMENTS // max(1, num_cosines)))
    return torch.cat([_largest(part, gallery, aggregation) for part in parts])


def moment_retrieval(
    video: Tensor, audio: Tensor, aggregation: Aggregation, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Compute :func:`~avssl.evaluation.cross_modal_retrieval` by similarities of moments.

    Args:
        video: (N, T, D) embeddings of moments.
        audio: (N, T, D) embeddings of the same moments of the same clips.
        aggregation: One of :data:`AGGREGATIONS`.
        ks: Cut-offs.

    Returns:
        ``v2a_...`` and ``a2v_...`` with ``R@k`` and ``median_rank``, ``chance_R@k`` and ``gallery_size``.

    Raises:
        ValueError: As :func:`moment_similarity`, if the numbers of clips differ, or a k is below 1.

    Example:
        >>> moments = torch.eye(4).view(2, 2, 4)  # two clips of two moments
        >>> scores = moment_retrieval(moments, moments, "diagonal_mean", ks=(1,))
        >>> scores["v2a_R@1"], scores["chance_R@1"]
        (1.0, 0.5)
    """
    scores = moment_similarity(video, audio, aggregation)
    both = {way: recall_of_ranks(*ranks_of_scores(each), ks) for way, each in (("v2a", scores), ("a2v", scores.T))}
    shared = {name: value for name, value in both["v2a"].items() if name.startswith(("chance", "gallery"))}
    own = {f"{way}_{name}": value for way, found in both.items() for name, value in found.items() if name not in shared}
    return own | shared


def _largest(queries: Tensor, gallery: Tensor, aggregation: Aggregation) -> Tensor:
    if aggregation == "max":
        return torch.einsum("ntd,msd->nmts", queries, gallery).flatten(2).amax(dim=2)
    return torch.einsum("ntd,mtd->nmt", queries, gallery).amax(dim=2)
