"""FNAC: EZ-VSL's loss plus, after warm-up, three affinity terms that suppress false negatives.

Source: Sun et al., "Learning Audio-Visual Source Localization via False Negative Aware Contrastive Learning", CVPR
2023, https://arxiv.org/abs/2303.11302; where the paper leaves a choice, this follows the authors' program,
https://github.com/OpenNLPLab/FNAC_AVL. To EZ-VSL's loss are added three distances between batch affinities, each the
softmax over a row of N scores at the temperature of that loss::

    affinity        score of clip i with clip j
    audio_audio     cosine of their audio
    image_image     product of their mean cells
    audio_image     highest cosine of a cell of image i with audio j, the base loss's score
    foreground      product of their mean foregrounds

    loss = CE(audio_image, rows) + CE(audio_image, columns)            base: EZ-VSL
         + 100 mean |audio_audio - audio_image|                        audio_weight: suppresses false negatives
         + 100 mean |image_image - audio_image|                        image_weight: suppresses false negatives
         + 100 mean |audio_audio - foreground|                         foreground_weight: strengthens true negatives

Clips with similar audio (or images) are false negatives of each other and may have a high score. Clips with different
audio are true negatives, and so should be the sounding objects in their images. The mean cell is the mean of unit
cells. The mean foreground is the sum of the cells whose cosine with the own audio, scaled from the lowest and highest
of the map to [0, 1], is above 0.6, divided by the number of all cells. As in that program, neither is normalized again.
Means are over all N x N pairs, so the added terms weigh less as the batch grows; it is 256 there. The terms count after
``warmup_epochs``: affinities mean nothing before the modalities are aligned.

FNAC also drops 90 % of the visual features in training, which here is a setting of the model (``model.dropout.video``).

Different here: a clip has an image for each of T time cells. The mean cell is over all of them; the foreground is found
per frame or in the whole clip (``max_over``).

Dimensions: B clips on this rank, N clips over all ranks, D embedding size, T time cells, H * W cells of each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together, own_rows
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import CountOrZero, PositiveOrZero, ShareBelowOne, Temperature, checked
from avssl.objectives.objective import Objective
from avssl.objectives.scores import (
    MaxOver,
    best_cell_scores,
    check_pooling,
    statistics,
    symmetric_cross_entropy,
)


def foreground(cells: Tensor, audio: Tensor, threshold: float, max_over: MaxOver) -> Tensor:
    """Return the mean over all cells of the foreground; the other cells count as 0.

    Args:
        cells: (B, D, T, H, W) unit embeddings of cells.
        audio: (B, D) unit embeddings of the same clips' audio.
        threshold: A cell whose cosine, scaled to [0, 1], is above it belongs to the foreground; in [0, 1).
        max_over: Cosines are scaled by the extremes of the clip ("cells") or of each frame ("space").

    Returns:
        (B, D). The choice of cells has no gradient. A map of equal cosines has no foreground.

    Example:
        >>> cells = torch.eye(2).view(1, 2, 1, 1, 2)  # one frame with two cells
        >>> foreground(cells, torch.tensor([[1.0, 0]]), threshold=0.6, max_over="cells")  # half of the first cell
        tensor([[0.5000, 0.0000]])
    """
    over = (1, 2, 3) if max_over == "cells" else (2, 3)
    cosines = torch.einsum("bdthw,bd->bthw", cells.detach(), audio.detach())
    low, high = cosines.amin(over, keepdim=True), cosines.amax(over, keepdim=True)
    chosen = cosines - low > threshold * (high - low)
    return (cells * chosen[:, None]).mean((2, 3, 4))


@checked
class FNAC(Objective):
    """EZ-VSL's loss and three distances between affinities, over the global batch.

    Args:
        temperature: Temperature of the loss and of all affinities, > 0.
        audio_weight: Weight of the distance between audio affinities and scores, >= 0.
        image_weight: Weight of the distance between image affinities and scores, >= 0.
        foreground_weight: Weight of the distance between audio and foreground affinities, >= 0.
        foreground_threshold: Cells above it, in a map scaled to [0, 1], are foreground; in [0, 1).
        warmup_epochs: Epochs with the base loss only.
        max_over: The maximum is over all cells ("cells"), or over each frame and averaged over time ("space").

    Terms, means over this rank's rows: ``loss``, the weighted sum; ``loss_base``; ``loss_audio``, ``loss_image`` and
    ``loss_foreground``, the distances without their weights, also during warm-up; ``accuracy_v2a``, ``accuracy_a2v``,
    ``cosine_positive`` and ``cosine_negative`` as in InfoNCE.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, ones = torch.arange(4), torch.ones(4, 8)
        >>> same = avssl.Embeddings(ones, ones, video_map=torch.ones(4, 8, 1, 7, 7))
        >>> FNAC(warmup_epochs=5)(same, None, BatchIndex(row, row, row)).total  # during warm-up: 2 log 4
        tensor(2.7726)
    """

    needs = ObjectiveNeeds(maps=True)
    is_warm: Tensor

    def __init__(
        self,
        temperature: Temperature = 0.03,
        audio_weight: PositiveOrZero = 100.0,
        image_weight: PositiveOrZero = 100.0,
        foreground_weight: PositiveOrZero = 100.0,
        foreground_threshold: ShareBelowOne = 0.6,
        warmup_epochs: CountOrZero = 5,
        max_over: MaxOver = "space",
    ) -> None:
        super().__init__()
        check_pooling("max", max_over)
        self.weights = {"audio": audio_weight, "image": image_weight, "foreground": foreground_weight}
        self.temperature, self.foreground_threshold = temperature, foreground_threshold
        self.warmup_epochs: int = warmup_epochs
        self.max_over: MaxOver = max_over
        # A factor, so that neither a step nor a resume reads from the device whether warm-up is over.
        self.register_buffer("is_warm", torch.tensor(0.0))

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, weights={self.weights}, warmup_epochs={self.warmup_epochs}"

    def on_epoch_start(self, number: int) -> None:
        """End the warm-up when its epochs are over."""
        self.is_warm.fill_(float(number >= self.warmup_epochs))

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is more than one view of a clip, or no map.
        """
        self.check_views(online, index)
        scores = best_cell_scores(online, gather_together(online.audio)[0], "max", self.max_over)
        base = 2 * symmetric_cross_entropy(*scores, self.temperature)
        distances = self._distances(online, scores[0])
        added = sum(weight * distances[name] for name, weight in self.weights.items())
        total = base + self.is_warm * added
        parts = {f"loss_{name}": value.detach() for name, value in {"base": base, **distances}.items()}
        return LossTerms(total, {"loss": total.detach(), **parts, **statistics(*(s.detach() for s in scores))})

    def _distances(self, online: Embeddings, scores_v2a: Tensor) -> dict[str, Tensor]:
        """Return the three mean absolute differences, by the name of their weight."""
        assert online.video_map is not None, "best_cell_scores raises without it"
        with torch.autocast(scores_v2a.device.type, enabled=False):
            audio = F.normalize(online.audio.float(), dim=1)
            cells = F.normalize(online.video_map.float(), dim=1)
            sounding = foreground(cells, audio, self.foreground_threshold, self.max_over)
            audio_image = (scores_v2a / self.temperature).softmax(dim=1)
            vectors = gather_together(audio, cells.mean((2, 3, 4)), sounding)
            audio_audio, image_image, foregrounds = (self._affinity(x) for x in vectors)
        return {
            "audio": F.l1_loss(audio_audio, audio_image),
            "image": F.l1_loss(image_image, audio_image),
            "foreground": F.l1_loss(audio_audio, foregrounds),
        }

    def _affinity(self, vectors: Tensor) -> Tensor:
        """Return the (B, N) affinities of this rank's among (N, D) vectors; each row sums to 1."""
        return (own_rows(vectors) @ vectors.T / self.temperature).softmax(dim=1)
