"""VICReg across modalities: video and audio agree, every dimension varies, and dimensions do not repeat each other.

Source: Bardes, Ponce and LeCun, ICLR 2022, https://arxiv.org/abs/2105.04906, eqs. 1 to 6. Variance and covariance are
of each modality by itself, so the two need not have the same encoder. It needs wide embeddings.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import PositiveOrZero, checked
from avssl.objectives.objective import Objective
from avssl.objectives.pairs import cross_and_within, float_pair, gathered_views, views_needed

_EPS = 1e-4
"""Added to the variance, so that the root of it has a gradient at 0."""


def vicreg(
    video: Tensor, audio: Tensor, invariance: PositiveOrZero, variance: PositiveOrZero, covariance: PositiveOrZero
) -> Tensor:
    """Return the weighted sum of the invariance, variance and covariance terms over the global batch.

    The invariance term is the mean squared difference. The variance term is the mean over dimensions of
    ``max(0, 1 - sqrt(var + 1e-4))``, averaged over both modalities. The covariance term is the sum of the squared
    off-diagonal covariances divided by D, summed over both. Variance and covariance are the unbiased ones.

    Args:
        video: ``(B, D)`` projections; their scale counts.
        audio: ``(B, D)`` projections of the same clips in the same order.
        invariance: Weight of the invariance term; 25 in the paper.
        variance: Weight of the variance term; 25 in the paper.
        covariance: Weight of the covariance term; 1 in the paper.

    Returns:
        ``()`` float32, also under autocast: the loss of the global batch, equal on every rank. Gradients, after DDP
        averages them over ranks, equal those of one process that sees the whole batch.

    Raises:
        ValueError: If ``video`` and ``audio`` are not two ``(B, D)`` of one shape with at least two clips over all
            ranks.

    Example:
        >>> same = torch.zeros(8, 128)  # all clips have one embedding
        >>> vicreg(same, same, invariance=25.0, variance=25.0, covariance=1.0)  # 25 (1 - sqrt(1e-4))
        tensor(24.7500)
    """
    videos, audios = gather_together(video, audio)
    return _vicreg(videos, audios, invariance, variance, covariance).total


@checked
class VICReg(Objective):
    """:func:`vicreg` of the global batch.

    Args:
        invariance: Weight of the mean squared difference of video and audio.
        variance: Weight of the hinge on the standard deviation of each dimension.
        covariance: Weight of the squared covariances of different dimensions.
        within_modal: Weight of the loss between two views of the video and of the audio; above 0 each clip is augmented
            twice.

    Terms, of the global batch: ``loss``; ``loss_invariance``, ``loss_variance`` and ``loss_covariance``, without the
    weights. Two views add ``loss_cross`` and ``loss_within``; the other terms are then the cross-modal ones.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, corners = torch.arange(4), torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
        >>> opposite = avssl.Embeddings(corners, -corners)  # enough variance, no covariance
        >>> VICReg(invariance=25.0)(opposite, None, BatchIndex(row, row, row)).total  # 25 (1 + 1)²
        tensor(100.)
    """

    def __init__(
        self,
        invariance: PositiveOrZero = 25.0,
        variance: PositiveOrZero = 25.0,
        covariance: PositiveOrZero = 1.0,
        within_modal: PositiveOrZero = 0.0,
    ) -> None:
        super().__init__()
        self.weights, self.within_modal = (invariance, variance, covariance), within_modal
        self.needs = self.needs_of({"within_modal": within_modal})

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(num_views=views_needed(options["within_modal"]))

    def extra_repr(self) -> str:
        invariance, variance, covariance = self.weights
        return f"{invariance=}, {variance=}, {covariance=}, within_modal={self.within_modal}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If the number of views is wrong, or there is one clip over all ranks.
        """
        self.check_views(online, index)
        video, audio = gathered_views(online, self.needs.num_views)
        return cross_and_within(video, audio, self.within_modal, lambda x, y: _vicreg(x, y, *self.weights))


def _vicreg(videos: Tensor, audios: Tensor, invariance: float, variance: float, covariance: float) -> LossTerms:
    with torch.autocast(videos.device.type, enabled=False):
        both = float_pair(videos, audios)  # (N, D) each
        difference = F.mse_loss(*both)
        spreads, repeats = zip(*(_variance_and_covariance(x) for x in both), strict=True)
        hinge, repeat = torch.stack(spreads).mean(), torch.stack(repeats).sum()
    total = invariance * difference + variance * hinge + covariance * repeat
    parts = {"loss_invariance": difference, "loss_variance": hinge, "loss_covariance": repeat}
    return LossTerms(total, {"loss": total.detach(), **{name: part.detach() for name, part in parts.items()}})


def _variance_and_covariance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the hinge on the standard deviations of (N, D), and the squared off-diagonal covariances over D."""
    centered = x - x.mean(dim=0)
    covariance = centered.T @ centered / (len(x) - 1)  # (D, D)
    var = covariance.diagonal()
    hinge = F.relu(1 - torch.sqrt(var + _EPS)).mean()
    return hinge, (covariance.square().sum() - var.square().sum()) / x.shape[1]
