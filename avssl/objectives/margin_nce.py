"""MarginNCE: InfoNCE with a margin on the positive, negative for pairs that may be wrong.

Source: Park, Senocak and Chung, ICASSP 2023, https://arxiv.org/abs/2211.01966. The score of the
clip's own pair is s - m in numerator and denominator. With m < 0 the decision is less strict: a pair
whose sound comes from off screen is pulled together less. With m > 0 it is stricter, as in CosFace.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.errors import InputError
from avssl.objectives.objective import Objective
from avssl.objectives.scores import (
    MaxOver,
    Pooling,
    best_cell_scores,
    check_negative_sounds,
    check_pooling,
    check_temperature,
    own_columns,
    pooled_and_best,
    pooled_scores,
    statistics,
    symmetric_cross_entropy,
)


def margin_nce(video: Tensor, audio: Tensor, temperature: float, margin: float) -> Tensor:
    """:func:`avssl.objectives.info_nce` after the margin is taken from the cosine of each positive.

    Args:
        video: ``(B, D)`` projections of any scale; normalized here.
        audio: ``(B, D)`` projections of the same clips in the same order.
        temperature: Softmax temperature, > 0.
        margin: A cosine, in [-2, 2]; 0 is InfoNCE.

    Returns:
        ``()`` float32, mean over this rank's rows of both directions.

    Raises:
        ValueError: If the shapes do not agree, or a number is out of range.
    """
    check_temperature(temperature)
    _check_margin(margin)
    return symmetric_cross_entropy(*_with_margin(pooled_scores(video, audio), margin), temperature)


class MarginNCE(Objective):
    """:func:`margin_nce` over the global batch, on pooled embeddings or on the best cell.

    Args:
        temperature: Softmax temperature, > 0.
        margin: What is taken from the cosine of a positive.
        pooling: What scores a pair, as in :class:`avssl.objectives.InfoNCE`.
        max_over: Over what the maximum is taken, likewise.
        negative_sounds: Silences and noises that videos are contrasted with, likewise.

    Terms: as InfoNCE's; accuracies and cosines are those without the margin.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        margin: float = -0.2,
        pooling: Pooling = "pooled",
        max_over: MaxOver = "cells",
        negative_sounds: int = 0,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        check_negative_sounds(negative_sounds)
        _check_margin(margin)
        check_pooling(pooling, max_over)
        self.temperature, self.margin = temperature, margin
        self.pooling, self.max_over, self.negative_sounds = pooling, max_over, negative_sounds
        self.needs_maps = pooling != "pooled"

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, margin={self.margin}, pooling={self.pooling!r}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """The loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is more than one view of a clip, or a map or negative sounds are wanted and missing.
        """
        self.check_views(online, index)
        negative = self.negatives_of(online)
        if self.pooling == "pooled":
            return self._score(pooled_scores(online.video, online.audio, negative))
        best = self._score(best_cell_scores(online, self.pooling, self.max_over, negative))
        if self.pooling == "max":
            return best
        return pooled_and_best(self._score(pooled_scores(online.video, online.audio, negative)), best)

    def _score(self, scores: tuple[Tensor, Tensor]) -> LossTerms:
        total = symmetric_cross_entropy(*_with_margin(scores, self.margin), self.temperature)
        return LossTerms(total, {"loss": total.detach(), **statistics(*(s.detach() for s in scores))})


def _with_margin(scores: tuple[Tensor, Tensor], margin: float) -> tuple[Tensor, Tensor]:
    v2a, a2v = scores
    own = own_columns(len(v2a), v2a.device)[:, None]
    taken_v2a, taken_a2v = (torch.zeros_like(scores).scatter_(1, own, margin) for scores in (v2a, a2v))
    return v2a - taken_v2a, a2v - taken_a2v


def _check_margin(margin: float) -> None:
    if not abs(margin) <= 2 or math.isnan(margin):
        raise InputError(f"margin ({margin}) must be in [-2, 2]: cosines differ by no more.")
