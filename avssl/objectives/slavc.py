"""SLAVC: separate heads for which audio a cell belongs to and where in the frame the audio's source is.

Source: Mo and Morgado, NeurIPS 2022, https://arxiv.org/abs/2209.09634; where the paper leaves a choice, this
follows the authors' program, https://github.com/stoneMo/SLAVC. For image i, audio j and cell c, with cosines in the
two spaces::

    P_which(i, j, c) = softmax over the audios j of the batch   cos(which_video[i, c], which_audio[j]) / temperature
    P_where(i, j, c) = softmax over the cells c of an image     cos(where_video[i, c], where_audio[j]) / temperature

    score(i, j) = log sum_c P_which(i, j, c) P_where(i, j, c)
    loss = mean of CE(score(images, target audios)) and CE(score(target images, audios)), at j = i

Targets are embeddings of the momentum model. Images are the rows of both terms, as in that program: a cell has a
distribution over audios, but cells of different images have no common normalization. The mean of the two terms is half
of the program's loss.

SLAVC also drops 90 % of the visual features in training. Here that is a setting of the model (``model.dropout.video``)
for any objective; it drops a feature from all cells of a clip, where the program drops single values of a map. The
program also localizes with the momentum model; ``train.ema_decay`` releases such an average.

Different here: a clip has a map for each of T time cells. Each is scored as an image, and scores are averaged over time
before the cross-entropy, so that the map of every frame is trained.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size, T time cells, C = H * W cells of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together, own_rows
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Share, Temperature, checked
from avssl.objectives.objective import Objective
from avssl.objectives.scores import cell_cosines, check_map, check_temperature, own_columns


def slavc_scores(
    which_map: Tensor, which_audio: Tensor, where_map: Tensor, where_audio: Tensor, temperature: float
) -> Tensor:
    """Return the scores of this rank's images with the audio of all ranks.

    Sums are in logarithms: at a temperature of 0.03 probabilities would underflow in float32. Memory grows as
    B * N * T * C.

    Args:
        which_map: (B, D, T, H, W) projections of any scale; normalized here.
        which_audio: (B, D) projections of the same clips in the same order.
        where_map: (B, D', T, H, W) projections of the second video head.
        where_audio: (B, D') projections of the second audio head.
        temperature: Temperature of both softmaxes, > 0.

    Returns:
        (B, N) float32, <= 0; ``-log(N)`` everywhere if all audio embeddings coincide. Clip i of rank r is column
        r * B + i.

    Raises:
        ValueError: If the shapes do not agree, or ``temperature`` is not above 0.

    Example:
        >>> ones, maps = torch.ones(2, 8), torch.ones(2, 8, 1, 7, 7)
        >>> slavc_scores(maps, ones, maps, ones, temperature=0.03)[0]  # two equal audio embeddings: -log 2
        tensor([-0.6931, -0.6931])
    """
    return _scores(which_map, where_map, *gather_together(which_audio, where_audio), temperature=temperature)


def _scores(
    which_map: Tensor, where_map: Tensor, which_audios: Tensor, where_audios: Tensor, *, temperature: float
) -> Tensor:
    """Return :func:`slavc_scores` from the (N, D) and (N, D') audio of all ranks."""
    check_temperature(temperature)
    check_map(which_map, own_rows(which_audios))
    check_map(where_map, own_rows(where_audios))
    if which_map.shape[0] != where_map.shape[0] or which_map.shape[2:] != where_map.shape[2:]:
        raise InputError(
            "both maps must have the same clips and cells, "
            f"got which_map {tuple(which_map.shape)} and where_map {tuple(where_map.shape)}."
        )
    which = cell_cosines(which_map, which_audios) / temperature  # (B, T, N, C)
    where = cell_cosines(where_map, where_audios) / temperature  # (B, T, N, C)
    probability = which.log_softmax(dim=2) + where.log_softmax(dim=3)
    return probability.logsumexp(dim=3).mean(dim=1)


@checked
class SLAVC(Objective):
    """Cross-entropy of :func:`slavc_scores` against targets of the momentum model, mean of both directions.

    Args:
        temperature: Temperature of both softmaxes, > 0.
        momentum: Share of itself that the momentum model keeps in a step, in [0, 1]; use less for short runs.

    Pooled video embeddings are not trained directly; they are the heads applied to pooled features.

    Terms, means over this rank's clips: ``loss``; ``accuracy_v2a``, how often the own target audio has the highest
    score of the batch, and ``accuracy_a2v``, the same for target images and audio.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, ones, maps = torch.arange(4), torch.ones(4, 8), torch.ones(4, 8, 1, 7, 7)
        >>> same = avssl.Embeddings(ones, ones, video_map=maps, video_where_map=maps, audio_where=ones)
        >>> SLAVC()(same, same, BatchIndex(row, row, row)).total  # log 4
        tensor(1.3863)
    """

    def __init__(self, temperature: Temperature = 0.03, momentum: Share = 0.999) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature
        self.needs = self.needs_of({"momentum": momentum})

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(maps=True, where_heads=True, target_momentum=options["momentum"])

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, momentum={self.needs.target_momentum}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms.

        Raises:
            ValueError: If there is no target, more than one view of a clip, or no second heads.
        """
        if target is None:
            raise InputError("SLAVC needs the embeddings of a momentum model; PretrainTask makes one.")
        if not len(online.video) == len(target.video) == len(index):
            raise InputError(
                f"SLAVC takes one view of each clip, got {len(online.video)} embeddings "
                f"and {len(target.video)} targets of {len(index)} clips."
            )
        theirs = gather_together(*_audio(target), *_audio(online))
        v2a, a2v = self._scores(online, *theirs[:2]), self._scores(target, *theirs[2:])
        own = own_columns(len(index), v2a.device)
        total = (F.cross_entropy(v2a, own) + F.cross_entropy(a2v, own)) / 2
        terms = {
            "loss": total.detach(),
            "accuracy_v2a": _accuracy(v2a.detach(), own),
            "accuracy_a2v": _accuracy(a2v.detach(), own),
        }
        return LossTerms(total, terms)

    def _scores(self, images: Embeddings, which_audios: Tensor, where_audios: Tensor) -> Tensor:
        if images.video_map is None or images.video_where_map is None:
            raise InputError(_MISSING)
        maps = images.video_map, images.video_where_map
        return _scores(*maps, which_audios, where_audios, temperature=self.temperature)


_MISSING = (
    "SLAVC needs Embeddings.video_map, video_where_map and audio_where: give the model where_heads=HeadPair(...), and "
    "call it with needs_maps=True."
)


def _audio(embeddings: Embeddings) -> tuple[Tensor, Tensor]:
    if embeddings.audio_where is None:
        raise InputError(_MISSING)
    return embeddings.audio, embeddings.audio_where


def _accuracy(scores: Tensor, own: Tensor) -> Tensor:
    return (scores.argmax(dim=1) == own).float().mean()
