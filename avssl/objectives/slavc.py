"""SLAVC: which sound a cell belongs to, and where in the picture a sound is, asked of separate heads.

Source: Mo and Morgado, NeurIPS 2022, https://arxiv.org/abs/2209.09634; where the paper leaves a choice, the
authors' program decides, https://github.com/stoneMo/SLAVC. Of picture i, sound j and cell c, with cosines in the
two spaces::

    P_which(i, j, c) = softmax over the sounds j of the batch   cos(which_video[i, c], which_audio[j]) / temperature
    P_where(i, j, c) = softmax over the cells c of a picture    cos(where_video[i, c], where_audio[j]) / temperature

    score(i, j) = log sum_c P_which(i, j, c) P_where(i, j, c)
    loss = mean of CE(score(pictures, target sounds)) and CE(score(target pictures, sounds)), at j = i

Targets are embeddings of the momentum model. A picture is a row of either term, as in that program: one cell says
which sound it belongs to, but cells of different pictures have nothing to be normalized over. The mean of the two
terms is half of the program's loss.

Its other part, dropping nine in ten visual features in training, is an option of the model (``model.dropout.video``),
and so is there for any objective. It drops a feature from all cells of a clip, where that program drops values of a map
one by one. That program also points with the momentum model; ``train.ema_decay`` releases such an average.

What is ours: a clip has a map for each of T time cells. Each is scored as a picture, and scores are averaged over time
before the cross-entropy, so that the map of every frame is trained and a moment that tells sounds apart counts for
those that do not.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size, T time cells, C = H * W cells of each.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.errors import InputError
from avssl.objectives.objective import Objective
from avssl.objectives.scores import cell_cosines, check_map, check_temperature, own_columns


def slavc_scores(
    which_map: Tensor, which_audio: Tensor, where_map: Tensor, where_audio: Tensor, temperature: float
) -> Tensor:
    """The score of this rank's pictures with the sounds of all ranks.

    Sums are of logarithms: at a temperature of 0.03 probabilities themselves would vanish in float32. Memory grows as
    B * N * T * C.

    Args:
        which_map: (B, D, T, H, W) projections of any scale; normalized here.
        which_audio: (B, D), of the same clips in the same order.
        where_map: (B, D', T, H, W), of the second head.
        where_audio: (B, D'), likewise.
        temperature: Of both softmaxes, > 0.

    Returns:
        (B, N) float32, <= 0; ``-log(N)`` everywhere when all sounds coincide. Sound i of rank r is column r * B + i.

    Raises:
        ValueError: If the shapes do not agree, or ``temperature`` is not above 0.
    """
    check_temperature(temperature)
    check_map(which_map, which_audio)
    check_map(where_map, where_audio)
    if which_map.shape[0] != where_map.shape[0] or which_map.shape[2:] != where_map.shape[2:]:
        raise InputError(
            "both maps must have the same clips and cells, "
            f"got which_map {tuple(which_map.shape)} and where_map {tuple(where_map.shape)}."
        )
    which = cell_cosines(which_map, which_audio) / temperature
    where = cell_cosines(where_map, where_audio) / temperature
    probability = which.log_softmax(dim=2) + where.log_softmax(dim=3)
    return probability.logsumexp(dim=3).mean(dim=1)


class SLAVC(Objective):
    """Cross-entropy of :func:`slavc_scores` against targets of the momentum model, mean of both directions.

    Args:
        temperature: Of both softmaxes, > 0; 0.03 in SLAVC.
        momentum: Of the target model, in [0, 1]; 0.999 in SLAVC.

    Pooled video embeddings are not trained themselves, but are the heads' on the pooled features.

    Terms, means over this rank's pictures: ``loss``; ``accuracy_v2a``, how often the own target sound scores highest
    of the batch, and ``accuracy_a2v``, the same of target pictures and sounds.

    Raises:
        ValueError: If an argument is out of range.
    """

    needs_target = True
    needs_maps = True
    heads = ("where",)

    def __init__(self, temperature: float = 0.03, momentum: float = 0.999) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature, self.target_momentum = temperature, momentum

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, momentum={self.target_momentum}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """The loss and its terms.

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
        v2a, a2v = self._scores(online, target), self._scores(target, online)
        own = own_columns(len(index), v2a.device)
        total = (F.cross_entropy(v2a, own) + F.cross_entropy(a2v, own)) / 2
        terms = {
            "loss": total.detach(),
            "accuracy_v2a": _accuracy(v2a.detach(), own),
            "accuracy_a2v": _accuracy(a2v.detach(), own),
        }
        return LossTerms(total, terms)

    def _scores(self, pictures: Embeddings, sounds: Embeddings) -> Tensor:
        if pictures.video_map is None or pictures.video_where_map is None or sounds.audio_where is None:
            raise InputError(
                "SLAVC needs Embeddings.video_map, video_where_map and audio_where: give the model "
                "where_heads=HeadPair(...), and call it with needs_maps=True."
            )
        return slavc_scores(
            pictures.video_map, sounds.audio, pictures.video_where_map, sounds.audio_where, self.temperature
        )


def _accuracy(scores: Tensor, own: Tensor) -> Tensor:
    return (scores.argmax(dim=1) == own).float().mean()
