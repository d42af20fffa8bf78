"""Cross-modal retrieval of the paired clip: is a clip's audio the nearest to its video, and the other way round?

Ties count in expectation over their random order, so an encoder that has collapsed to one point scores chance,
k / N; counting only strictly better items would give it 1.0.

Dimensions: N pairs, D embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.errors import InputError

TIE = 1e-6
"""Cosines closer than this are ties, because float32 embeddings are not more accurate."""

_CHUNK = 1024  # queries at a time: 1024 x 100 000 float64 cosines are 0.8 GB


def match_ranks(queries: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Count the wrong items that rank above each query's own item, and those tied with it.

    Args:
        queries: (N, D) float, of any scale; a zero vector has cosine 0 with everything.
        gallery: (N, D) float; item i is the match of query i.

    Returns:
        ``better`` (N,) and ``tied`` (N,) int64: gallery items other than the match whose cosine is
        higher than, or within :data:`TIE` of, the match's. The rank of the match is then uniform
        in ``better + 1 .. better + tied + 1``.

    Raises:
        ValueError: If the shapes differ, there are no pairs, or a value is not finite.
    """
    if queries.ndim != 2 or queries.shape != gallery.shape or len(queries) == 0:
        raise InputError(
            "queries and gallery must be (N, D) with pair i in row i, "
            f"got {tuple(queries.shape)} and {tuple(gallery.shape)}."
        )
    for name, x in (("queries", queries), ("gallery", gallery)):
        if not torch.isfinite(x).all():
            bad = int((~torch.isfinite(x)).any(dim=1).nonzero()[0])
            raise InputError(f"{name} hold NaN or infinity, first in row {bad}.")
    queries, gallery = F.normalize(queries.double(), dim=1), F.normalize(gallery.double(), dim=1)
    better, tied = [], []
    for first in range(0, len(queries), _CHUNK):
        counts = _ranks_of_rows(queries[first : first + _CHUNK] @ gallery.T, first)
        better.append(counts[0])
        tied.append(counts[1])
    return torch.cat(better), torch.cat(tied)


def ranks_of_scores(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Count as :func:`match_ranks` does from (N, N) similarities of queries (rows) with the gallery (columns).

    Raises:
        ValueError: If the scores are not square, there are none, or one is not finite.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not len(scores):
        raise InputError(f"scores must be (N, N) with the match of query i in column i, got {tuple(scores.shape)}.")
    if not torch.isfinite(scores).all():
        raise InputError("scores hold NaN or infinity.")
    return _ranks_of_rows(scores.double(), 0)


def _ranks_of_rows(scores: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Count better and tied items in (n, N) scores of queries ``first`` to ``first + n``."""
    row = torch.arange(len(scores), device=scores.device)
    match = scores[row, row + first][:, None]
    better = (scores > match + TIE).sum(dim=1)
    return better, ((scores - match).abs() <= TIE).sum(dim=1) - 1  # minus the match itself


def hit_probability(better: Tensor, tied: Tensor, k: int) -> Tensor:
    """Return (N,) float64: the probability that the match is in the top ``k``."""
    return ((k - better).double() / (tied + 1)).clamp(0, 1)


def retrieval(queries: Tensor, gallery: Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Compute recall at k by cosine, where item i of the gallery is the only match of query i.

    Args:
        queries: (N, D) float, of any scale; a zero vector has cosine 0 with everything.
        gallery: (N, D) float.
        ks: Cut-offs, >= 1.

    Returns:
        ``R@k`` and ``chance_R@k`` (= min(1, k / N)) for each k, in [0, 1]; ``median_rank``, 1 is
        best and (N + 1) / 2 is chance; ``gallery_size`` N.

    Raises:
        ValueError: If the shapes differ, there are no pairs, a value is not finite, or a k is below 1.

    Example:
        >>> retrieval(torch.eye(4), torch.eye(4), ks=(1,))
        {'R@1': 1.0, 'chance_R@1': 0.25, 'median_rank': 1.0, 'gallery_size': 4.0}
        >>> retrieval(torch.ones(4, 2), torch.ones(4, 2))["R@1"]  # a collapsed encoder scores chance
        0.25
    """
    return recall_of_ranks(*match_ranks(queries, gallery), ks)


def recall_of_ranks(better: Tensor, tied: Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Compute the numbers of :func:`retrieval` from the counts of :func:`match_ranks`."""
    if any(k < 1 for k in ks):
        raise InputError(f"ks must be at least 1, got {tuple(ks)}.")
    size = len(better)
    result = {f"R@{k}": hit_probability(better, tied, k).mean().item() for k in ks}
    result |= {f"chance_R@{k}": min(1.0, k / size) for k in ks}
    result["median_rank"] = float(np.median((1 + better + tied / 2).cpu().numpy()))
    result["gallery_size"] = float(size)
    return result


def cross_modal_retrieval(video: Tensor, audio: Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Compute :func:`retrieval` from video to audio (``v2a_...``) and from audio to video (``a2v_...``).

    Args:
        video: (N, D) embeddings.
        audio: (N, D) embeddings of the same clips in the same order.
        ks: Cut-offs.

    Returns:
        ``v2a_R@k``, ``a2v_R@k``, ``v2a_median_rank``, ``a2v_median_rank``, and, as
        they are the same in both directions, ``chance_R@k`` and ``gallery_size``.

    Raises:
        ValueError: As :func:`retrieval`.

    Example:
        >>> scores = cross_modal_retrieval(torch.eye(4), torch.eye(4)[[1, 0, 2, 3]])  # two sounds are exchanged
        >>> scores["v2a_R@1"], scores["a2v_R@1"]
        (0.5, 0.5)
    """
    both = {"v2a": retrieval(video, audio, ks), "a2v": retrieval(audio, video, ks)}
    shared = {name: value for name, value in both["v2a"].items() if name.startswith(("chance", "gallery"))}
    own = {
        f"{way}_{name}": value for way, numbers in both.items() for name, value in numbers.items() if name not in shared
    }
    return own | shared
