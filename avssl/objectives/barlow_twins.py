"""Barlow Twins across modalities: each dimension of a video agrees with the same one of its audio and with no other.

Source: Zbontar et al., ICML 2021, https://arxiv.org/abs/2103.03230, eq. 1. There are no negatives; what keeps the
embeddings apart is that their dimensions are decorrelated over the batch. It needs wide embeddings.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import PositiveOrZero, checked
from avssl.objectives.objective import Objective
from avssl.objectives.pairs import cross_and_within, float_pair, gathered_views, views_needed

_EPS = 1e-5
"""Added to the variance, as in BatchNorm."""


def barlow_twins(video: Tensor, audio: Tensor, off_diagonal: PositiveOrZero) -> Tensor:
    """Return the squared distance of the cross-correlation matrix from the identity, the off-diagonal part weighted.

    Each dimension is standardized over the global batch, with the population variance.

    Args:
        video: ``(B, D)`` projections of any scale.
        audio: ``(B, D)`` projections of the same clips in the same order.
        off_diagonal: Weight of the off-diagonal correlations; 0.0051 in the paper.

    Returns:
        ``()`` float32, also under autocast: the loss of the global batch, equal on every rank. Gradients, after DDP
        averages them over ranks, equal those of one process that sees the whole batch.

    Raises:
        ValueError: If ``video`` and ``audio`` are not two ``(B, D)`` of one shape with at least two clips over all
            ranks.

    Example:
        >>> corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])  # two dimensions without correlation
        >>> round(barlow_twins(corners, 3 * corners, off_diagonal=0.0051).item(), 4)
        0.0
    """
    videos, audios = gather_together(video, audio)
    return _barlow_twins(videos, audios, off_diagonal).total


@checked
class BarlowTwins(Objective):
    """:func:`barlow_twins` of the global batch.

    Args:
        off_diagonal: Weight of the off-diagonal correlations; less for wider embeddings.
        within_modal: Weight of the loss between two views of the video and of the audio; above 0 each clip is augmented
            twice.

    Terms, of the global batch: ``loss``; ``loss_diagonal`` and ``loss_off_diagonal``, its two sums without the weight;
    ``correlation``, the mean of the diagonal in [-1, 1]. Two views add ``loss_cross`` and ``loss_within``; the other
    terms are then the cross-modal ones.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, corners = torch.arange(4), torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
        >>> opposite = avssl.Embeddings(corners, -corners)  # each of the two dimensions has correlation -1
        >>> round(BarlowTwins()(opposite, None, BatchIndex(row, row, row)).total.item(), 2)  # 2 (-1 - 1)²
        8.0
    """

    def __init__(self, off_diagonal: PositiveOrZero = 0.0051, within_modal: PositiveOrZero = 0.0) -> None:
        super().__init__()
        self.off_diagonal, self.within_modal = off_diagonal, within_modal
        self.needs = self.needs_of({"within_modal": within_modal})

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(num_views=views_needed(options["within_modal"]))

    def extra_repr(self) -> str:
        return f"off_diagonal={self.off_diagonal}, within_modal={self.within_modal}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If the number of views is wrong, or there is one clip over all ranks.
        """
        self.check_views(online, index)
        video, audio = gathered_views(online, self.needs.num_views)
        return cross_and_within(video, audio, self.within_modal, lambda x, y: _barlow_twins(x, y, self.off_diagonal))


def _barlow_twins(videos: Tensor, audios: Tensor, off_diagonal: float) -> LossTerms:
    with torch.autocast(videos.device.type, enabled=False):
        first, second = (_standardized(x) for x in float_pair(videos, audios))  # (N, D)
        correlation = first.T @ second / len(first)  # (D, D)
        diagonal = correlation.diagonal()
        on = (diagonal - 1).square().sum()
        off = correlation.square().sum() - diagonal.square().sum()
    total = on + off_diagonal * off
    parts = {"loss_diagonal": on.detach(), "loss_off_diagonal": off.detach(), "correlation": diagonal.detach().mean()}
    return LossTerms(total, {"loss": total.detach(), **parts})


def _standardized(x: Tensor) -> Tensor:
    var, mean = torch.var_mean(x, dim=0, correction=0)
    return (x - mean) * torch.rsqrt(var + _EPS)
