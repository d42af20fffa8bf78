"""Losses of pairs of embeddings of one clip: of video and audio, and optionally of two views of one modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from torch import Tensor

from avssl.core.batch import Embeddings, LossTerms
from avssl.core.distributed import gather_together
from avssl.core.errors import InputError
from avssl.objectives.scores import average, check_pair, view_of_all

_Side = TypeVar("_Side")


def views_needed(within_modal: float) -> int:
    """Return the views of each clip that the weight of within-modal pairs requires."""
    return 2 if within_modal else 1


def cross_and_within(
    video: Sequence[_Side], audio: Sequence[_Side], within_modal: float, pair: Callable[[_Side, _Side], LossTerms]
) -> LossTerms:
    """Return the loss of video with audio, plus ``within_modal`` times that of two views of video and of audio.

    Args:
        video: Each view of the videos.
        audio: Each view of their audios, in the same order.
        within_modal: Weight of the pairs within a modality; above 0 there are two views.
        pair: Symmetric loss of two sides of the same clips.

    Returns:
        The mean over views of the cross-modal loss with its terms. With two views, ``loss`` includes the mean of both
        within-modal losses, and ``loss_cross`` and ``loss_within`` are the parts.
    """
    cross = average([pair(*sides) for sides in zip(video, audio, strict=True)])
    if not within_modal:
        return cross
    within = average([pair(*video), pair(*audio)])
    total = cross.total + within_modal * within.total
    parts = {"loss": total.detach(), "loss_cross": cross.total.detach(), "loss_within": within.total.detach()}
    return LossTerms(total, {**cross.terms, **parts})


def gathered_views(online: Embeddings, num_views: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the (N, D) video and audio embeddings of all ranks, with gradient, of each view."""
    videos, audios = (
        [view_of_all(x, number, num_views) for number in range(num_views)]
        for x in gather_together(online.video, online.audio)
    )
    return videos, audios


def float_pair(videos: Tensor, audios: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, D) embeddings of all ranks in float32.

    Raises:
        ValueError: If the two are not (N, D) of one shape, or there are fewer than two clips, which have no statistics.
    """
    check_pair(videos, audios)
    check_statistics(len(videos))
    return videos.float(), audios.float()


def check_statistics(num_clips: int) -> None:
    """Raise ValueError for a single clip over all ranks, which has no statistics."""
    if num_clips < 2:
        raise InputError("statistics over a batch need at least two clips over all ranks, got one: raise batch_size.")


class Predicted(NamedTuple):
    """One view of one modality, for objectives with a predictor."""

    prediction: Tensor
    """(B, D) output of the predictor, with gradient."""
    target: Tensor
    """(B, D) embeddings that others predict, without gradient."""


def predicted_views(
    embedding: Tensor, prediction: Tensor | None, target: Tensor, num_clips: int, *, residual: bool
) -> list[Predicted]:
    """Return each view of ``num_clips`` clips.

    Args:
        embedding: (V*B, D) embeddings of the trained model.
        prediction: (V*B, D) output of the predictor on them.
        target: (V*B, D) embeddings that others predict; their gradient is stopped.
        num_clips: B.
        residual: Take the output as what is to be added to the embedding, not as the prediction itself.

    Raises:
        ValueError: If there are no predictions, or other targets than predictions.
    """
    if prediction is None:
        raise InputError(
            "the objective needs Embeddings.video_prediction and audio_prediction: give the model "
            "objective_heads(objective.needs, embedding_size)."
        )
    if prediction.shape != target.shape:
        raise InputError(
            f"predictions {tuple(prediction.shape)} and targets {tuple(target.shape)} must hold the same clips."
        )
    whole = embedding + prediction if residual else prediction
    views = zip(whole.split(num_clips), target.detach().split(num_clips), strict=True)
    return [Predicted(*view) for view in views]
