"""SSL-TIE: when the picture is turned, the heat map must turn with it.

Source: Liu et al., "Exploiting Transformation Invariance and Equivariance for Self-supervised Sound Localization", ACM
Multimedia 2022, https://arxiv.org/abs/2206.12772; where the paper leaves a choice, the authors' program decides,
https://github.com/jinxiang-liu/SSL-TIE. Every clip has two views; the picture of the second is that of the first,
turned by up to 30 degrees and shrunk to between 0.5 and 1 times its size::

    first view ─────────── map 0: cosines of its cells with its sound ── turned ──┐
        └─ turned ─ second view ── map 1 ────────────────────────── mean squared difference
                                                                    where the turned map shows the picture

    loss = mean of the contrastive losses of both views + equivariance_weight * that difference

The contrastive loss is that of LVS, as there, or InfoNCE. What differs from the program: every clip has a turn of its
own, a pure function of its key, so that the transform that makes the view and the loss that turns the map agree; its
size is any between the two; pictures are not mirrored a second time; the difference is not taken in the empty margin;
and the second view has its own augmentation of the sound. The program's strong augmentation of pictures and sounds
are settings of the transform, for any objective.

Dimensions: B clips on this rank, T time cells, H and W cells of a map.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.affine import Affine, RandomAffine
from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.errors import InputError
from avssl.objectives.info_nce import InfoNCE
from avssl.objectives.lvs import LVS
from avssl.objectives.objective import Objective
from avssl.objectives.scores import average, check_map, one_view

Contrast = Literal["lvs", "pooled", "max", "both"]


def own_cosines(video_map: Tensor, audio: Tensor) -> Tensor:
    """(B, T, H, W) float32: every cell of maps (B, D, T, H, W) with the clip's own sound (B, D).

    Raises:
        ValueError: If the shapes do not agree.
    """
    check_map(video_map, audio)
    with torch.autocast(audio.device.type, enabled=False):
        cells, sound = F.normalize(video_map.float(), dim=1), F.normalize(audio.float(), dim=1)
        return torch.einsum("bdthw,bd->bthw", cells, sound)


def equivariance(first: Tensor, second: Tensor, affine: Affine) -> Tensor:
    """How far the maps of turned pictures are from the turned maps.

    Args:
        first: (B, T, H, W) maps of pictures.
        second: (B, T, H, W) maps of those pictures after ``affine.warp``.
        affine: The turn of each clip.

    Returns:
        () float32: the mean squared difference over the cells of a clip that show a place of the first picture, mean
        over clips; gradients pass to both maps.

    Raises:
        ValueError: If the shapes differ.
    """
    if first.ndim != 4 or first.shape != second.shape:
        raise InputError(
            f"the maps of both views must be (B, T, H, W) of one shape, got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    inside = affine.support(*first.shape[2:])[:, None].float()
    squares = (affine.warp(first, "border") - second).square().mean(dim=1, keepdim=True)
    # Turned maps of one or two cells a side may have none inside; they then say nothing.
    return ((squares * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1)).mean()


class SSLTIE(Objective):
    """A contrastive loss of two views, and the equivariance of their maps.

    Args:
        temperature: Of the contrastive loss, > 0.
        contrast: "lvs", or how InfoNCE scores a pair: "pooled", "max" or "both", the best cell in every frame.
        equivariance_weight: Of the difference of maps, >= 0; 1 in SSL-TIE.
        max_degrees: Largest turn of the second view either way, in [0, 180].
        scale: Its lowest and highest size, 0 < low <= high <= 1.
        positive_threshold: As are the other two, LVS's; they mean nothing to InfoNCE.
        negative_threshold: Likewise.
        threshold_width: Likewise.

    Terms: those of the contrastive loss, means of both views; ``loss``, the weighted sum, of it ``loss_contrast``
    and ``loss_equivariance``, without its weight.

    Raises:
        ValueError: If an argument is out of range.
    """

    needs_maps = True
    num_views = 2

    def __init__(
        self,
        temperature: float = 0.07,
        contrast: Contrast = "lvs",
        equivariance_weight: float = 1.0,
        max_degrees: float = 30.0,
        scale: tuple[float, float] = (0.5, 1.0),
        positive_threshold: float = 0.65,
        negative_threshold: float = 0.4,
        threshold_width: float = 0.03,
    ) -> None:
        super().__init__()
        if contrast not in get_args(Contrast):
            raise InputError(f'contrast ({contrast!r}) must be one of "lvs", "pooled", "max", "both".')
        if not equivariance_weight >= 0:
            raise InputError(f"equivariance_weight ({equivariance_weight}) must be 0 or above.")
        self.equivariance_weight = equivariance_weight
        self.view_warp: RandomAffine = RandomAffine(max_degrees, (scale[0], scale[1]))
        self.contrast: Objective
        if contrast == "lvs":
            self.contrast = LVS(temperature, positive_threshold, negative_threshold, threshold_width)
        else:
            self.contrast = InfoNCE(temperature, contrast, "space")

    def extra_repr(self) -> str:
        return f"equivariance_weight={self.equivariance_weight}, {self.view_warp}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """The loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there are not two views of a clip, or no maps.
        """
        self.check_views(online, index)
        first, second = (one_view(online, number, len(index)) for number in range(2))
        contrast = average([self.contrast(view, None, index) for view in (first, second)])
        difference = equivariance(_map(first), _map(second), self.view_warp.draw(index.key))
        total = contrast.total + self.equivariance_weight * difference
        parts = {"loss_contrast": contrast.total.detach(), "loss_equivariance": difference.detach()}
        return LossTerms(total, {**contrast.terms, "loss": total.detach(), **parts})


def _map(view: Embeddings) -> Tensor:
    if view.video_map is None:
        raise InputError("SSLTIE needs Embeddings.video_map; call the model with needs_maps=objective.needs_maps.")
    return own_cosines(view.video_map, view.audio)
