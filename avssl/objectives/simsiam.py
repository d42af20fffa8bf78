"""SimSiam across modalities: a predictor turns an embedding of the video into that of its audio.

Source: Chen and He, CVPR 2021, https://arxiv.org/abs/2011.10566, eqs. 1 to 4, with video and audio in the place of two
views. There are neither negatives nor a second model. What keeps the embeddings apart is that the gradient stops at
the target, together with the predictor.

Dimensions: B clips on this rank, D embedding size, V views of a clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Channels, PositiveOrZero, checked
from avssl.objectives.objective import Objective
from avssl.objectives.pairs import Predicted, cross_and_within, predicted_views, views_needed


@checked
class SimSiam(Objective):
    """Negative cosine of predictions with the other modality's embeddings, whose gradient is stopped.

    The loss is the mean of both directions, in [-1, 1]. A predictor of the papers' form may turn the space of one
    modality into that of the other: predictions then meet their targets, but a video and its audio are not close, and
    retrieval and localization, which compare embeddings, stay at chance. So by default the predictor computes what is
    added to the embedding, which pulls both modalities into one space.

    Args:
        predictor_hidden: Width of the hidden layer of each modality's predictor; a quarter of the embedding size in the
            paper.
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
        >>> east, northeast = torch.tensor([[1.0, 0]]), torch.tensor([[1.0, 1]])
        >>> clip = avssl.Embeddings(east, northeast, video_prediction=none, audio_prediction=none)
        >>> SimSiam()(clip, None, BatchIndex(row, row, row)).total  # -cos 45°
        tensor(-0.7071)
    """

    def __init__(
        self, predictor_hidden: Channels = 64, within_modal: PositiveOrZero = 0.0, residual: bool = True
    ) -> None:
        super().__init__()
        self.within_modal, self.residual = within_modal, residual
        self.needs = self.needs_of({"predictor_hidden": predictor_hidden, "within_modal": within_modal})

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(
            num_views=views_needed(options["within_modal"]), predictor_hidden=options["predictor_hidden"]
        )

    def extra_repr(self) -> str:
        return f"predictor_hidden={self.needs.predictor_hidden}, within_modal={self.within_modal}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is no prediction, or the number of views is wrong.
        """
        self.check_views(online, index)
        video = self._views(online.video, online.video_prediction, online.video, len(index))
        audio = self._views(online.audio, online.audio_prediction, online.audio, len(index))
        return cross_and_within(video, audio, self.within_modal, _pair)

    def _views(self, embedding: Tensor, prediction: Tensor | None, target: Tensor, num_clips: int) -> list[Predicted]:
        return predicted_views(embedding, prediction, target, num_clips, residual=self.residual)


def _pair(x: Predicted, y: Predicted) -> LossTerms:
    total = -(_cosine(x.prediction, y.target) + _cosine(y.prediction, x.target)) / 2
    return LossTerms(total, {"loss": total.detach(), "cosine_positive": -total.detach()})


def _cosine(prediction: Tensor, target: Tensor) -> Tensor:
    with torch.autocast(prediction.device.type, enabled=False):
        return F.cosine_similarity(prediction.float(), target.float(), dim=1).mean()
