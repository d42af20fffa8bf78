"""BYOL across modalities: a predictor turns an embedding of the video into that of its audio by a slower model.

Source: Grill et al., NeurIPS 2020, https://arxiv.org/abs/2006.07733, eq. 2, with video and audio in the place of two
views. There are no negatives. What keeps the embeddings apart is the predictor together with the target, which gets no
gradient and follows the model slowly; its momentum rises to 1 over the run.

Dimensions: B clips on this rank, D embedding size, V views of a clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Channels, PositiveOrZero, Share, checked
from avssl.objectives.objective import Objective
from avssl.objectives.pairs import Predicted, cross_and_within, predicted_views, views_needed


def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared distance of unit vectors, ``2 - 2 cos``.

    Args:
        prediction: ``(B, D)`` of any scale.
        target: ``(B, D)`` of any scale, of the same clips in the same order. Its gradient is not stopped here.

    Returns:
        ``()`` float32 in [0, 4], also under autocast: the mean over this rank's rows.

    Raises:
        ValueError: If the two are not ``(B, D)`` of one shape with B > 0.

    Example:
        >>> byol_loss(torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 5]]))  # 2 - 2 cos 90°
        tensor(2.)
    """
    if prediction.ndim != 2 or prediction.shape != target.shape or len(prediction) == 0:
        raise InputError(
            "prediction and target must hold the same clips in the same order, both (B, D) with B > 0, "
            f"got {tuple(prediction.shape)} and {tuple(target.shape)}."
        )
    with torch.autocast(prediction.device.type, enabled=False):
        unit, unit_target = F.normalize(prediction.float(), dim=1), F.normalize(target.float(), dim=1)
        return 2 - 2 * (unit * unit_target).sum(dim=1).mean()


@checked
class BYOL(Objective):
    """:func:`byol_loss` of video predictions and audio targets, and of audio predictions and video targets.

    The loss is the mean of both directions. A predictor of the papers' form may turn the space of one modality into
    that of the other: predictions then meet their targets, but a video and its audio are not close, and retrieval and
    localization, which compare embeddings, stay at chance. So by default the predictor computes what is added to the
    embedding, which pulls both modalities into one space.

    Args:
        predictor_hidden: Width of the hidden layer of each modality's predictor.
        momentum: Share of itself that the target model keeps in a step at the start of the run, in [0, 1]; use less for
            short runs.
        final_momentum: That share at the end of the run, reached along half a cosine.
        within_modal: Weight of the loss between two views of the video and of the audio; above 0 each clip is augmented
            twice.
        residual: Add the embedding to the predictor's output. False is the papers' form.

    Terms, means over this rank's rows: ``loss``; ``cosine_positive``, the cosine of predictions with their targets. Two
    views add ``loss_cross`` and ``loss_within``.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, none = torch.tensor([0]), torch.zeros(1, 2)  # the predictors add nothing
        >>> east, north = torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]])
        >>> clip = avssl.Embeddings(east, north, video_prediction=none, audio_prediction=none)
        >>> BYOL()(clip, clip, BatchIndex(row, row, row)).total  # 2 - 2 cos 90°
        tensor(2.)
    """

    def __init__(
        self,
        predictor_hidden: Channels = 512,
        momentum: Share = 0.99,
        final_momentum: Share = 1.0,
        within_modal: PositiveOrZero = 0.0,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.within_modal, self.residual = within_modal, residual
        self.needs = self.needs_of(
            {
                "predictor_hidden": predictor_hidden,
                "momentum": momentum,
                "final_momentum": final_momentum,
                "within_modal": within_modal,
            }
        )

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(
            num_views=views_needed(options["within_modal"]),
            predictor_hidden=options["predictor_hidden"],
            target_momentum=options["momentum"],
            final_momentum=options["final_momentum"],
        )

    def extra_repr(self) -> str:
        needs = self.needs
        return f"momentum={needs.target_momentum} to {needs.final_momentum}, within_modal={self.within_modal}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms.

        Raises:
            ValueError: If there is no target or no prediction, or the number of views is wrong.
        """
        self.check_views(online, index)
        if target is None:
            raise InputError("BYOL needs the embeddings of a momentum model; PretrainTask makes one.")
        video = self._views(online.video, online.video_prediction, target.video, len(index))
        audio = self._views(online.audio, online.audio_prediction, target.audio, len(index))
        return cross_and_within(video, audio, self.within_modal, _pair)

    def _views(self, embedding: Tensor, prediction: Tensor | None, target: Tensor, num_clips: int) -> list[Predicted]:
        return predicted_views(embedding, prediction, target, num_clips, residual=self.residual)


def _pair(x: Predicted, y: Predicted) -> LossTerms:
    total = (byol_loss(x.prediction, y.target) + byol_loss(y.prediction, x.target)) / 2
    return LossTerms(total, {"loss": total.detach(), "cosine_positive": 1 - total.detach() / 2})
