"""Cosines of embeddings with the learned prototypes of the model, checked."""

from __future__ import annotations

from torch import Tensor

from avssl.core.batch import Embeddings, Modality
from avssl.core.errors import InputError


def prototype_scores(online: Embeddings, modality: Modality, num_sets: int, num_prototypes: int, who: str) -> Tensor:
    """Return the (V*B, H, K) cosines of a modality with K prototypes in each of H sets.

    Raises:
        ValueError: If the model has none, or others; the message begins with the name ``who``.
    """
    scores: Tensor | None = getattr(online, f"{modality}_scores")
    if scores is None or scores.shape[1:] != (num_sets, num_prototypes):
        found = "none" if scores is None else tuple(scores.shape)
        raise InputError(
            f"{who} needs Embeddings.{modality}_scores (V*B, {num_sets}, {num_prototypes}), got {found}: give the "
            "model objective_heads=objective_heads(objective.needs, embedding_size)."
        )
    return scores


def local_scores(
    online: Embeddings, modality: Modality, num_clips: int, expected: int, num_prototypes: int, who: str
) -> Tensor:
    """Return the (L, B, K) cosines of the L local views of each of B clips with K prototypes; L may be 0.

    Raises:
        ValueError: If there are not ``expected`` local views of each clip, or the model has other prototypes.
    """
    found = 0 if online.local is None else len(online.local.video) / num_clips
    if found != expected:
        raise InputError(
            f"{who}(local_views={expected}) needs as many local views of each clip in Embeddings.local, got {found:g}: "
            "give the transform num_local_views=objective.needs.local_views."
        )
    if online.local is None:
        return online.video.new_zeros(0, num_clips, num_prototypes)
    scores = prototype_scores(online.local, modality, 1, num_prototypes, f"{who} with local views")
    return scores[:, 0].unflatten(0, (expected, num_clips))
