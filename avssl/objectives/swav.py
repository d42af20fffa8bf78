"""SwAV across modalities: one modality predicts the cluster of the other.

Source: Caron et al., NeurIPS 2020, https://arxiv.org/abs/2006.09882, section 3 and algorithm 1; the equal division
of a batch among clusters is optimal transport by Sinkhorn's iterations, Cuturi, NeurIPS 2013,
https://arxiv.org/abs/1306.0895. The two "views" are the video and the audio of a clip.

Two differences: the iterations run on logarithms, so that no small ``epsilon`` overflows, and the prototypes are
trained from the first step.

Dimensions: B clips on this rank, N clips over all ranks, Q embeddings of a queue, K prototypes, D embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms, Modality
from avssl.core.distributed import gather_together, mean, world_size
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Count, CountOrZero, PositiveOrZero, Temperature, checked
from avssl.objectives.objective import Objective
from avssl.objectives.prototypes import local_scores, prototype_scores

_MODALITIES: tuple[Modality, Modality] = ("video", "audio")


@torch.no_grad()
@checked
def sinkhorn(
    scores: Tensor,
    epsilon: Temperature,
    iterations: CountOrZero,
    *,
    queued: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    """Divide clips among prototypes so that each prototype gets equally many.

    Columns and rows of ``exp(scores / epsilon)`` are scaled in turn: a column to the same sum as every other, a row to
    1. Columns are sums over the clips of all ranks.

    Args:
        scores: ``(N, K)`` cosines of this rank's clips with the prototypes.
        epsilon: Smoothness of the division, > 0; 0.05 in SwAV.
        iterations: Number of times that columns and rows are scaled; 3 in SwAV. 0 scales the rows only, a plain
            softmax that does not divide equally.
        queued: ``(Q, K)`` scores of clips that are divided too, the same on every rank.
        sizes: ``(K,)`` shares of the prototypes, > 0, which need not sum to 1; None for equal shares.

    Returns:
        ``(N, K)`` shares of each clip, rows of sum 1, without gradient; float32, or float64 for such scores.

    Raises:
        ValueError: If ``scores`` is not (N, K), ``queued`` or ``sizes`` have another K, or a number is out of range.

    Example:
        >>> sinkhorn(torch.eye(2), epsilon=1.0, iterations=3)[0]  # equally divided already: the softmax of 1 and 0
        tensor([0.7311, 0.2689])
    """
    return _divided([scores], [queued], epsilon, iterations, sizes)[0]


def _divided(
    scores: Sequence[Tensor],
    queued: Sequence[Tensor | None],
    epsilon: float,
    iterations: int,
    sizes: Tensor | None = None,
) -> list[Tensor]:
    """Return :func:`sinkhorn` of several divisions, whose sums are exchanged together."""
    own: list[Tensor] = []
    common: list[Tensor] = []
    for each, others in zip(scores, queued, strict=True):
        others = each[:0] if others is None else others
        _check_scores(each, others, sizes)
        for side, x in ((own, each), (common, others)):
            side.append((x if x.dtype == torch.float64 else x.float()) / epsilon)
    for _ in range(iterations):
        everyone = gather_together(*map(_log_column_sums, own))
        for number, shares in enumerate(everyone):
            sums = torch.cat([shares, _log_column_sums(common[number])]).logsumexp(dim=0)
            if sizes is not None:
                sums = sums - sizes.log()
            own[number] = (own[number] - sums).log_softmax(dim=1)
            common[number] = (common[number] - sums).log_softmax(dim=1)
    return [each.softmax(dim=1) for each in own]


def _check_scores(scores: Tensor, queued: Tensor, sizes: Tensor | None) -> None:
    # One of several ranks may have no rows.
    if scores.ndim != 2 or scores.shape[1] == 0 or (len(scores) == 0 and world_size() == 1):
        raise InputError(f"scores must be (N, K) with N, K > 0, got {tuple(scores.shape)}.")
    if queued.ndim != 2 or queued.shape[1] != scores.shape[1]:
        raise InputError(f"queued must be (Q, {scores.shape[1]}) as scores, got {tuple(queued.shape)}.")
    if sizes is not None and sizes.shape != scores.shape[1:]:
        raise InputError(f"sizes must be ({scores.shape[1]},) as scores, got {tuple(sizes.shape)}.")


def _log_column_sums(x: Tensor) -> Tensor:
    """Return (1, K) logarithms, minus infinity if there are no rows."""
    return x.logsumexp(dim=0, keepdim=True)


@checked
def swapped_prediction(
    video_scores: Tensor, audio_scores: Tensor, temperature: Temperature, epsilon: Temperature, iterations: CountOrZero
) -> Tensor:
    """Return the cross-entropy of each modality's prediction with the other's division, mean of both directions.

    ``-1/2 mean_n sum_k (q_audio log softmax(video_scores / temperature) + q_video log softmax(audio_scores /
    temperature))``, where the q are from :func:`sinkhorn` and have no gradient.

    Args:
        video_scores: ``(N, K)`` cosines of this rank's videos with the prototypes.
        audio_scores: ``(N, K)`` cosines of the audio of the same clips in the same order.
        temperature: Softmax temperature of the prediction, > 0; 0.1 in SwAV.
        epsilon: As for :func:`sinkhorn`.
        iterations: As for :func:`sinkhorn`.

    Returns:
        ``()`` float32. With several ranks it is the mean over this rank's clips, and the mean over ranks is the
        global loss.

    Raises:
        ValueError: If the two differ in shape, or a number is out of range.

    Example:
        >>> scores = torch.zeros(4, 8)  # no prototype is nearer than another
        >>> swapped_prediction(scores, scores, 0.1, epsilon=0.05, iterations=3)  # log 8
        tensor(2.0794)
    """
    if video_scores.shape != audio_scores.shape:
        raise InputError(
            "video_scores and audio_scores must hold the same clips in the same order, "
            f"got {tuple(video_scores.shape)} and {tuple(audio_scores.shape)}."
        )
    scores = video_scores, audio_scores
    with torch.no_grad():
        targets = _divided(scores, (None, None), epsilon, iterations)
    return _swapped(scores, targets, temperature)


def _swapped(scores: Sequence[Tensor], targets: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the cross-entropy of either of two scores with the target of the other."""
    (first, second), (first_target, second_target) = scores, targets
    return (_cross_entropy(first, second_target, temperature) + _cross_entropy(second, first_target, temperature)) / 2


def _cross_entropy(scores: Tensor, target: Tensor, temperature: float) -> Tensor:
    scores = scores if scores.dtype == torch.float64 else scores.float()
    return -(target * (scores / temperature).log_softmax(dim=1)).sum(dim=1).mean()


@checked
class SwAV(Objective):
    """:func:`swapped_prediction` of prototypes between the modalities of the global batch.

    Batches with fewer clips than prototypes cannot be divided well. A queue adds the embeddings of past clips to the
    division, scored by the prototypes of now; it takes part as soon as it is full, from ``queue_from_epoch`` on.

    Args:
        embedding_size: Embedding size, D.
        prototypes: Number of prototypes, K, >= 2; 3000 in the paper for a thousand classes.
        shared_prototypes: Compare both modalities with the same prototypes, so that a video and an audio of one
            cluster have similar embeddings, as retrieval and search need.
        temperature: Softmax temperature of the prediction, > 0.
        epsilon: Smoothness of the division, > 0; it must be below the temperature for targets that are sharper than
            the predictions.
        iterations: Iterations of Sinkhorn's algorithm. 0 takes targets that are not divided equally, and the
            embeddings collapse.
        queue_size: Embeddings of each modality to keep; 0 for no queue. About 15 batches are usual.
        queue_from_epoch: First epoch in which the queue takes part; embeddings change too fast before.
        within_modal: Weight of the swapped prediction between two views of the same modality, relative to the
            cross-modal term's 1; 0 takes one view.
        local_views: Local views of each clip (multi-crop): each predicts the division of the other modality's full
            view, and with ``within_modal`` that of its own modality; none is divided itself. ``local_views.*`` sets
            their size.

    Terms: ``loss``; with ``within_modal`` also ``loss_cross`` and ``loss_within``; ``agreement``, how often video and
    audio of a clip have the same nearest prototype; ``used_prototypes``, the share of prototypes that are the nearest
    of a clip, by its perplexity over the global batch, in (0, 1]; ``queue_share``, the share of the queue that is
    filled.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, ones, scores = torch.arange(4), torch.ones(4, 2), torch.zeros(4, 1, 8)
        >>> clips = avssl.Embeddings(ones, ones, video_scores=scores, audio_scores=scores)
        >>> SwAV(embedding_size=2, prototypes=8)(clips, None, BatchIndex(row, row, row)).total  # log 8
        tensor(2.0794)
    """

    video_queue: Tensor
    """(Q, D) unit embeddings; zeros where it is empty."""
    audio_queue: Tensor
    """(Q, D)."""
    position: Tensor
    """() int64, embeddings that the queue has taken so far."""
    is_used: Tensor
    """() bool, True from ``queue_from_epoch`` on."""

    def __init__(
        self,
        embedding_size: int,
        prototypes: Count = 64,
        shared_prototypes: bool = True,
        temperature: Temperature = 0.1,
        epsilon: Temperature = 0.05,
        iterations: CountOrZero = 3,
        queue_size: CountOrZero = 0,
        queue_from_epoch: CountOrZero = 1,
        within_modal: PositiveOrZero = 0.0,
        local_views: CountOrZero = 0,
    ) -> None:
        super().__init__()
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.queue_from_epoch, self.within_modal = queue_from_epoch, within_modal
        self.needs = self.needs_of(
            {
                "prototypes": prototypes,
                "shared_prototypes": shared_prototypes,
                "within_modal": within_modal,
                "local_views": local_views,
            }
        )
        self.register_buffer("video_queue", torch.zeros(queue_size, embedding_size))
        self.register_buffer("audio_queue", torch.zeros(queue_size, embedding_size))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.register_buffer("is_used", torch.tensor(False))
        self._uses_queue = False  # on the host: reading a buffer would wait for the device once per step
        self._num_queued, self._is_full = 0, False
        self.register_load_state_dict_post_hook(_note_queue)

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        if options["prototypes"] < 2:
            raise InputError(f"prototypes ({options['prototypes']}) must be at least 2.")
        return ObjectiveNeeds(
            num_views=2 if options["within_modal"] else 1,
            prototypes=options["prototypes"],
            shared_prototypes=options["shared_prototypes"],
            local_views=options["local_views"],
            embedding_size=True,
        )

    def extra_repr(self) -> str:
        return (
            f"prototypes={self.needs.prototypes}, temperature={self.temperature}, epsilon={self.epsilon}, "
            f"iterations={self.iterations}, queue_size={len(self.video_queue)}"
        )

    def on_epoch_start(self, number: int) -> None:
        """Use the queue from ``queue_from_epoch`` on."""
        self._uses_queue = number >= self.queue_from_epoch
        self.is_used.fill_(self._uses_queue)

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If the number of views is wrong, or the model has other prototypes.
        """
        self.check_views(online, index)
        with torch.autocast(online.video.device.type, enabled=False):
            scores = {
                name: prototype_scores(online, name, 1, self.needs.prototypes, "SwAV")[:, 0].split(len(index))
                for name in _MODALITIES
            }
            targets = self._targets(online, scores)
            local = [
                local_scores(online, name, len(index), self.needs.local_views, self.needs.prototypes, "SwAV").unbind()
                for name in _MODALITIES
            ]
            first = [targets[name][0] for name in _MODALITIES]
            pairs, wanted = (zip(*by_name.values(), strict=True) for by_name in (scores, targets))
            cross = [_swapped(pair, target, self.temperature) for pair, target in zip(pairs, wanted, strict=True)]
            cross += [_swapped(pair, first, self.temperature) for pair in zip(*local, strict=True)]
            total, terms = torch.stack(cross).mean(), {}
            if self.within_modal:
                within = [_swapped(scores[name], targets[name], self.temperature) for name in _MODALITIES]
                within += [
                    _cross_entropy(view, target, self.temperature)
                    for views, target in zip(local, first, strict=True)
                    for view in views
                ]
                loss_within = torch.stack(within).mean()
                terms = {"loss_cross": total.detach(), "loss_within": loss_within.detach()}
                total = total + self.within_modal * loss_within
            terms |= _statistics(scores["video"][0].detach(), scores["audio"][0].detach())
        num_places = len(self.video_queue)
        if num_places:
            terms["queue_share"] = (self.position / num_places).clamp(max=1).float()
        return LossTerms(total, {"loss": total.detach(), **terms})

    @torch.no_grad()
    def update(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> None:
        """Replace the oldest queue entries by the first views of all ranks, in order of rank.

        Raises:
            ValueError: If a step has more clips than the queue has places.
        """
        num_places = len(self.video_queue)
        if not num_places:
            return
        self.check_views(online, index)
        new = gather_together(*(F.normalize(x[: len(index)].float(), dim=1) for x in (online.video, online.audio)))
        num_new = len(new[0])
        if num_new > num_places:
            raise InputError(f"queue_size ({num_places}) must be 0 or at least the {num_new} clips of a step.")
        places = (self.position + torch.arange(num_new, device=self.position.device)) % num_places
        self.video_queue[places], self.audio_queue[places] = new
        self.position += num_new
        self._num_queued += num_new
        self._is_full = self._num_queued >= num_places

    @torch.no_grad()
    def _targets(self, online: Embeddings, scores: Mapping[Modality, Sequence[Tensor]]) -> dict[Modality, list[Tensor]]:
        """Return the (B, K) targets from each view of each modality, with the queue where it takes part."""
        views = [view for name in _MODALITIES for view in scores[name]]
        queued = [self._queued(online, name) for name in _MODALITIES for _ in scores[name]]
        found = iter(_divided(views, queued, self.epsilon, self.iterations))
        return {name: [next(found) for _ in scores[name]] for name in _MODALITIES}

    def _queued(self, online: Embeddings, modality: Modality) -> Tensor | None:
        """Return the (Q, K) scores of the queue of a modality, or None where it takes no part."""
        queue: Tensor = getattr(self, f"{modality}_queue")
        if not (self._uses_queue and len(queue) and self._is_full):
            return None
        prototypes: Tensor | None = getattr(online, f"{modality}_prototypes")
        if prototypes is None:
            raise InputError(f"SwAV with a queue needs Embeddings.{modality}_prototypes (1, K, D), got none.")
        return queue @ prototypes[0].T


def _note_queue(objective: SwAV, _: object) -> None:
    objective._uses_queue = bool(objective.is_used)
    objective._num_queued = int(objective.position)
    objective._is_full = objective._num_queued >= len(objective.video_queue)


def _statistics(video: Tensor, audio: Tensor) -> dict[str, Tensor]:
    """Return () tensors on the device: reading them here would stall the GPU once per step."""
    nearest = torch.stack([video.argmax(dim=1), audio.argmax(dim=1)])  # (2, B)
    is_nearest = nearest[..., None] == torch.arange(video.shape[1], device=video.device)  # (2, B, K)
    shares = mean(is_nearest.float().mean(dim=1))  # over the global batch
    entropy = torch.special.entr(shares).sum(dim=1)
    return {
        "agreement": (nearest[0] == nearest[1]).float().mean(),
        "used_prototypes": entropy.exp().mean() / video.shape[1],
    }
