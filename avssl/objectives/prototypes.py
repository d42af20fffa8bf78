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
