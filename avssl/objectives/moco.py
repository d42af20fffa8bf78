"""Cross-modal MoCo: many negatives for a small batch, from a queue of past embeddings.

Source: He et al., CVPR 2020, https://arxiv.org/abs/1911.05722, eq. 1 and algorithm 1, across
modalities: a video is contrasted with its own audio and a queue of audio embeddings, an audio with videos. Keys
come from the momentum model, so that all queued embeddings come from one slowly moving encoder.

Two differences: a queue that is not full yet holds no random vectors, only the embeddings so far, and an older
embedding of the clip itself is not a negative.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size, K places in a queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Count, PositiveOrZero, Share, Temperature, checked
from avssl.objectives.equivariance import with_equivariance
from avssl.objectives.objective import Objective
from avssl.objectives.scores import check_temperature


class _Direction(NamedTuple):
    loss: Tensor
    accuracy: Tensor
    positive: Tensor
    negative: Tensor


@checked
class MoCo(Objective):
    """InfoNCE of this rank's clips against their own targets and the queue, mean of both directions.

    The queue starts empty, so the loss of the first step is 0. It is the same on every rank; :meth:`update`
    replaces its oldest entries by the targets of all ranks.

    Args:
        embedding_size: Embedding size, D.
        queue_size: Embeddings of each modality to keep, at least the batch size over all processes.
        temperature: Softmax temperature, > 0.
        momentum: Share of itself that the momentum model keeps in a step, in [0, 1]; use less for short runs.
        equivariant: Weight of the equivariant term, as in InfoNCE.
        exclude_same_file: Do not use queued clips of the same source file as negatives.

    Terms, means over this rank's rows: ``loss``; ``accuracy_v2a`` and ``accuracy_a2v``, how often
    the own target scores above the whole queue; ``cosine_positive`` and ``cosine_negative``;
    ``queue_share``, the share of the queue that is filled.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> objective, same = MoCo(embedding_size=8, queue_size=3), avssl.Embeddings(torch.ones(3, 8), torch.ones(3, 8))
        >>> first, later = torch.arange(3), torch.arange(3, 6)
        >>> objective.update(same, same, BatchIndex(first, first, first))
        >>> objective(same, same, BatchIndex(later, later, later)).total  # the own target and three of the queue: log 4
        tensor(1.3863)
    """

    video_queue: Tensor
    audio_queue: Tensor
    queue_row: Tensor
    queue_group: Tensor
    position: Tensor

    def __init__(
        self,
        embedding_size: int,
        queue_size: Count = 16384,
        temperature: Temperature = 0.07,
        momentum: Share = 0.999,
        exclude_same_file: bool = False,
        equivariant: PositiveOrZero = 0.0,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature, self.exclude_same_file = temperature, exclude_same_file
        self.equivariant = equivariant
        self.needs = self.needs_of({"momentum": momentum, "equivariant": equivariant})
        self.register_buffer("video_queue", torch.zeros(queue_size, embedding_size))
        self.register_buffer("audio_queue", torch.zeros(queue_size, embedding_size))
        # -1: an empty place.
        self.register_buffer("queue_row", torch.full((queue_size,), -1))
        self.register_buffer("queue_group", torch.full((queue_size,), -1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(
            target_momentum=options["momentum"], embedding_size=True, originals=options["equivariant"] > 0
        )

    def extra_repr(self) -> str:
        momentum = self.needs.target_momentum
        return f"queue_size={len(self.queue_row)}, temperature={self.temperature}, momentum={momentum}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms.

        Raises:
            ValueError: If there is no target, more than one view of a clip, or the embedding size is wrong.
        """
        target = self._check(online, target, index)
        with torch.autocast(online.video.device.type, enabled=False):
            empty = self.queue_row < 0
            excluded = empty | (index.row[:, None] == self.queue_row)
            if self.exclude_same_file:
                excluded = excluded | (index.group[:, None] == self.queue_group)
            v2a = self._direction(online.video, target.audio, self.audio_queue, excluded)
            a2v = self._direction(online.audio, target.video, self.video_queue, excluded)
        total = (v2a.loss + a2v.loss) / 2
        terms = {
            "loss": total.detach(),
            "accuracy_v2a": v2a.accuracy,
            "accuracy_a2v": a2v.accuracy,
            "cosine_positive": (v2a.positive + a2v.positive) / 2,
            "cosine_negative": (v2a.negative + a2v.negative) / 2,
            "queue_share": 1 - empty.float().mean(),
        }
        return with_equivariance(LossTerms(total, terms), online, self.equivariant, self.temperature)

    @torch.no_grad()
    def update(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> None:
        """Replace the oldest queue entries by the targets of all ranks, in order of rank.

        Raises:
            ValueError: If a step has more clips than the queue has places.
        """
        target = self._check(online, target, index)
        video, audio = (F.normalize(x.float(), dim=1) for x in (target.video, target.audio))
        new = gather_together(video, audio, index.row, index.group)
        num_places, num_new = len(self.queue_row), len(new[0])
        if num_new > num_places:
            raise InputError(f"queue_size ({num_places}) must be at least the {num_new} clips of a step.")
        places = (self.position + torch.arange(num_new, device=self.position.device)) % num_places
        for queue, values in zip(
            (self.video_queue, self.audio_queue, self.queue_row, self.queue_group), new, strict=True
        ):
            queue[places] = values
        self.position.copy_((self.position + num_new) % num_places)

    def _direction(self, query: Tensor, key: Tensor, queue: Tensor, excluded: Tensor) -> _Direction:
        """Contrast (B, D) queries with their own keys (column 0) and the queue (the others)."""
        query, key = F.normalize(query.float(), dim=1), F.normalize(key.detach().float(), dim=1)
        positive, negatives = (query * key).sum(dim=1, keepdim=True), query @ queue.T
        scores = torch.cat([positive, negatives.masked_fill(excluded, -torch.inf)], dim=1)
        first = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
        loss = F.cross_entropy(scores / self.temperature, first)
        num_negatives = (~excluded).sum().clamp(min=1)
        mean_negative = negatives.detach().masked_fill(excluded, 0).sum() / num_negatives
        accuracy = (positive.detach() > scores.detach()[:, 1:].amax(dim=1, keepdim=True)).float().mean()
        return _Direction(loss, accuracy, positive.detach().mean(), mean_negative)

    def _check(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> Embeddings:
        if target is None:
            raise InputError("MoCo needs the embeddings of a momentum model; PretrainTask makes one.")
        expected = (len(index), self.video_queue.shape[1])
        if online.video.shape != expected or target.video.shape != expected:
            raise InputError(
                f"MoCo takes one view of each clip, {expected} embeddings of the model and of its target, "
                f"got {tuple(online.video.shape)} and {tuple(target.video.shape)}."
            )
        return target
