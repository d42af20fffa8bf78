"""MarginNCE: InfoNCE with a margin on the positive, negative for pairs that may be wrong.

Source: Park, Senocak and Chung, ICASSP 2023, https://arxiv.org/abs/2211.01966. The score of the
clip's own pair is s - m in numerator and denominator. With m < 0 the loss is less strict: a pair
whose sound source is off screen is pulled together less. With m > 0 it is stricter, as in CosFace.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import CountOrZero, Signed, Temperature, checked
from avssl.objectives.objective import Objective
from avssl.objectives.scores import (
    MaxOver,
    PairScore,
    best_cell_scores,
    check_pooling,
    check_temperature,
    own_columns,
    pooled_and_best,
    pooled_scores,
    statistics,
    symmetric_cross_entropy,
)


def margin_nce(video: Tensor, audio: Tensor, temperature: Temperature, margin: Signed) -> Tensor:
    """Return :func:`avssl.objectives.info_nce` with the margin subtracted from the cosine of each positive.

    Args:
        video: ``(B, D)`` projections of any scale; normalized here.
        audio: ``(B, D)`` projections of the same clips in the same order.
        temperature: Softmax temperature, > 0.
        margin: A cosine, in [-2, 2]; 0 is InfoNCE.

    Returns:
        ``()`` float32, mean over this rank's rows of both directions.

    Raises:
        ValueError: If the shapes do not agree, or a number is out of range.

    Example:
        >>> margin_nce(torch.ones(2, 8), torch.ones(2, 8), temperature=1.0, margin=-0.5)  # log(1 + exp(-0.5))
        tensor(0.4741)
    """
    check_temperature(temperature)
    _check_margin(margin)
    return symmetric_cross_entropy(*_with_margin(pooled_scores(*gather_together(video, audio)), margin), temperature)


@checked
class MarginNCE(Objective):
    """:func:`margin_nce` over the global batch, on pooled embeddings or on the best cell.

    Args:
        temperature: Softmax temperature, > 0.
        margin: Subtracted from the cosine of a clip's own pair, in [-2, 2]; negative for pairs that may be wrong.
        pooling: Score of a pair: the cosine of the pooled embeddings ("pooled"), the maximum over cells of the video
            map ("max"), or the mean of the losses of both.
        max_over: The maximum is over all cells ("cells"), or over each frame and averaged over time ("space").
        negative_sounds: Clips of silence and noise, half each, added to the audio of each process as negatives; even.

    Terms: those of :class:`avssl.objectives.InfoNCE`; accuracies and cosines are without the margin.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, same = torch.arange(2), avssl.Embeddings(torch.ones(2, 8), torch.ones(2, 8))
        >>> objective = MarginNCE(temperature=1.0, margin=0.5, pooling="pooled")
        >>> objective(same, None, BatchIndex(row, row, row)).total  # log(1 + exp(0.5))
        tensor(0.9741)
    """

    def __init__(
        self,
        temperature: Temperature = 0.07,
        margin: Signed = -0.2,
        pooling: PairScore = "both",
        max_over: MaxOver = "space",
        negative_sounds: CountOrZero = 0,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        _check_margin(margin)
        check_pooling(pooling, max_over)
        self.temperature, self.margin = temperature, margin
        self.pooling, self.max_over = pooling, max_over
        self.needs = self.needs_of({"pooling": pooling, "negative_sounds": negative_sounds})

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(maps=options["pooling"] != "pooled", negative_sounds=options["negative_sounds"])

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, margin={self.margin}, pooling={self.pooling!r}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is more than one view of a clip, or a map or negative sounds are missing.
        """
        self.check_views(online, index)
        negative = self.negatives_of(online)
        own = [online.video, online.audio] + ([] if negative is None else [negative])
        video, audio, *negatives = gather_together(*own)
        if self.pooling == "pooled":
            return self._score(pooled_scores(video, audio, *negatives))
        best = self._score(best_cell_scores(online, audio, self.pooling, self.max_over, *negatives))
        if self.pooling == "max":
            return best
        return pooled_and_best(self._score(pooled_scores(video, audio, *negatives)), best)

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
