"""LVS: each frame is divided softly into sounding, silent and undecided cells.

Source: Chen et al., "Localizing Visual Sounds the Hard Way", CVPR 2021, https://arxiv.org/abs/2104.02691, sec. 3;
where the paper leaves a choice, this follows the authors' program,
https://github.com/hche11/Localizing-Visual-Sounds-the-Hard-Way. The cosine S of the audio with a cell determines how
much the cell belongs to the positive and to the negative region of the frame::

    S              -1 ────────── 0.4 ────── 0.65 ───────── 1
    positive mask   ░░░░░░░░░░░░░░░░░░░░░░░░▒▓██████████████    sigmoid((S - 0.65) / 0.03)
    negative mask   ██████████████▓▒░░░░░░░░░░░░░░░░░░░░░░░░    1 - sigmoid((S - 0.4) / 0.03)

    P(i, j)   mean of S over the frame of clip i with audio j, weighted by the positive mask
    N(i)      mean of S over the frame of clip i with its own audio, weighted by the negative mask

    loss      cross-entropy of [P(i, 1) ... P(i, N), N(i)] / temperature with target P(i, i)

As in the program, a frame is contrasted with the audio of other clips, not audio with frames; ``symmetric`` does both.
N(i) is the hard negative: the silent part of the clip's own frame resembles the sounding part more than another clip
does. The own pair is in the row once, as the target. (The program has it twice, the second time multiplied by -99,
which removes it from the softmax only where it is positive and far from 0.) Gradients pass through the masks too.

Different here: a clip has a frame for each of T time cells. Each has its own masks, and P and N are averaged over time
before the cross-entropy, so that the map of every frame is trained.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size, T time cells, C = H * W cells of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Cosine, Positive, Temperature, checked
from avssl.objectives.objective import Objective
from avssl.objectives.scores import cell_cosines, check_temperature, other_direction, own_columns, statistics


@dataclass(frozen=True)
class TriMap:
    """The soft division of a frame by the cosines of its cells.

    Raises:
        ValueError: If the thresholds are not cosines in this order, or ``width`` is not above 0.

    Example:
        >>> cosines, tri_map = torch.tensor([0.9, 0.9, 0.1, 0.1]), TriMap()
        >>> tri_map.positive_mean(cosines), tri_map.negative_mean(cosines)
        (tensor(0.9000), tensor(0.1000))
    """

    positive_threshold: Cosine = 0.65
    """Cosine above which cells are positive, in [-1, 1]."""
    negative_threshold: Cosine = 0.4
    """Cosine below which cells are negative; those between the two count as neither."""
    width: float = 0.03
    """Softness of both steps, > 0."""

    def __post_init__(self) -> None:
        if not -1 <= self.negative_threshold <= self.positive_threshold <= 1:
            raise InputError(
                f"negative_threshold ({self.negative_threshold}) must not be above positive_threshold "
                f"({self.positive_threshold}), and both must be cosines, in [-1, 1]."
            )
        if not self.width > 0:
            raise InputError(f"threshold_width ({self.width}) must be above 0; 0.03 in LVS.")

    def positive_mean(self, cosines: Tensor) -> Tensor:
        """Return the mean of (..., C) cosines weighted by the positive mask, (...)."""
        return _weighted_mean(cosines, F.logsigmoid((cosines - self.positive_threshold) / self.width))

    def negative_mean(self, cosines: Tensor) -> Tensor:
        """Return the mean of (..., C) cosines weighted by the negative mask, (...)."""
        return _weighted_mean(cosines, F.logsigmoid((self.negative_threshold - cosines) / self.width))


def lvs_scores(video_map: Tensor, audio: Tensor, tri_map: TriMap) -> tuple[Tensor, Tensor]:
    """Return P and N of the formula above. Memory grows as B * N * T * C.

    Args:
        video_map: (B, D, T, H, W) projections of every cell, of any scale; normalized here.
        audio: (B, D) projections of the same clips in the same order.
        tri_map: Division of frames.

    Returns:
        (B, N) float32 of this rank's frames with the audio of all ranks: clip i of rank r is column r * B + i. And
        (B,) of the silent part of each frame with its own audio.

    Raises:
        ValueError: If the shapes do not agree.

    Example:
        >>> audio = torch.eye(2)  # of each frame's two cells, one is like its audio, one is opposite
        >>> video_map = torch.stack([audio, -audio], dim=2).view(2, 2, 1, 1, 2)
        >>> scores, hard = lvs_scores(video_map, audio, TriMap())
        >>> scores.round().tolist(), hard.round().tolist()
        ([[1.0, 0.0], [0.0, 1.0]], [-1.0, -1.0])
    """
    cosines = cell_cosines(video_map, gather_together(audio)[0])  # (B, T, N, C)
    own = own_columns(len(audio), audio.device)
    hard = tri_map.negative_mean(cosines[torch.arange(len(own), device=own.device), :, own])
    return tri_map.positive_mean(cosines).mean(dim=1), hard.mean(dim=1)


@checked
class LVS(Objective):
    """Cross-entropy over sounding regions, with the silent region of each frame as a hard negative.

    Args:
        temperature: Softmax temperature, > 0.
        positive_threshold: Cosine with the audio above which a cell belongs to the sounding region.
        negative_threshold: Cosine with the own audio below which a cell belongs to the silent region; cells between
            the thresholds count as neither.
        threshold_width: Softness of both thresholds, > 0.
        symmetric: Also contrast audio with the frames of other clips, and average the two losses; LVS does not.

    Terms, means over this rank's rows: ``loss``; ``accuracy_v2a``, ``accuracy_a2v``, ``cosine_positive`` and
    ``cosine_negative`` of P, as in :class:`avssl.objectives.InfoNCE`; ``cosine_hard``, N.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, ones = torch.arange(4), torch.ones(4, 8)
        >>> same = avssl.Embeddings(ones, ones, video_map=torch.ones(4, 8, 1, 7, 7))
        >>> LVS()(same, None, BatchIndex(row, row, row)).total  # four clips and the own negative region: log 5
        tensor(1.6094)
    """

    needs = ObjectiveNeeds(maps=True)

    def __init__(
        self,
        temperature: Temperature = 0.07,
        positive_threshold: Cosine = 0.65,
        negative_threshold: Cosine = 0.4,
        threshold_width: Positive = 0.03,
        *,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature, self.symmetric = temperature, symmetric
        self.tri_map = TriMap(positive_threshold, negative_threshold, threshold_width)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, {self.tri_map}, symmetric={self.symmetric}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is more than one view of a clip, or no map.
        """
        self.check_views(online, index)
        if online.video_map is None:
            raise InputError("LVS needs Embeddings.video_map; call the model with needs_maps=objective.needs.maps.")
        v2a, hard = lvs_scores(online.video_map, online.audio, self.tri_map)
        a2v = other_direction(v2a if self.symmetric else v2a.detach())
        total = self._loss(v2a, hard)
        if self.symmetric:
            total = (total + self._loss(a2v, hard)) / 2
        cosines = {**statistics(v2a.detach(), a2v.detach()), "cosine_hard": hard.detach().mean()}
        return LossTerms(total, {"loss": total.detach(), **cosines})

    def _loss(self, scores: Tensor, hard: Tensor) -> Tensor:
        logits = torch.cat([scores, hard[:, None]], dim=1) / self.temperature
        return F.cross_entropy(logits, own_columns(len(logits), logits.device))


def _weighted_mean(values: Tensor, log_weights: Tensor) -> Tensor:
    """Return the weighted mean over the last dimension; in logarithms, as the sum of small weights would vanish."""
    return (log_weights.softmax(dim=-1) * values).sum(dim=-1)
