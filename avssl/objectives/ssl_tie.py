"""SSL-TIE: contrastive learning with heat maps that are equivariant to rotation and scale.

Source: Liu et al., "Exploiting Transformation Invariance and Equivariance for Self-supervised Sound Localization", ACM
Multimedia 2022, https://arxiv.org/abs/2206.12772; where the paper leaves a choice, this follows the authors' program,
https://github.com/jinxiang-liu/SSL-TIE. Every clip has two views; the frames of the second are those of the first,
rotated by up to 30 degrees and scaled to between 0.5 and 1 times their size::

    first view ─────────── map 0: cosines of its cells with its audio ── warped ──┐
        └─ warped ─ second view ── map 1 ────────────────────────── mean squared difference
                                                                    where the warped map shows the frame

    loss = mean of the contrastive losses of both views + equivariance_weight * that difference

The contrastive loss is LVS, as there, or InfoNCE. Differences from the program: every clip has its own warp, a pure
function of its key, so that the transform that makes the view and the loss that warps the map agree; scales are drawn
from the whole range; frames are not flipped a second time; the difference excludes the empty margin; and the second
view has its own audio augmentation. The program's strong augmentations are settings of the transform, for any
objective.

Dimensions: B clips on this rank, T time cells, H and W cells of a map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.affine import Affine, RandomAffine
from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Cosine, Degrees, Positive, PositiveOrZero, PositiveShare, Temperature, checked
from avssl.objectives.info_nce import InfoNCE
from avssl.objectives.lvs import LVS
from avssl.objectives.objective import Objective
from avssl.objectives.scores import average, check_map, one_view

Contrast = Literal["lvs", "pooled", "max", "both"]


def own_cosines(video_map: Tensor, audio: Tensor) -> Tensor:
    """Return the (B, T, H, W) float32 cosines of (B, D, T, H, W) cells with the clip's own (B, D) audio.

    Raises:
        ValueError: If the shapes do not agree.
    """
    check_map(video_map, audio)
    with torch.autocast(audio.device.type, enabled=False):
        cells, audio = F.normalize(video_map.float(), dim=1), F.normalize(audio.float(), dim=1)
        return torch.einsum("bdthw,bd->bthw", cells, audio)


def equivariance(first: Tensor, second: Tensor, affine: Affine) -> Tensor:
    """Return the distance between the maps of warped frames and the warped maps.

    Args:
        first: (B, T, H, W) maps of frames.
        second: (B, T, H, W) maps of those frames after ``affine.warp``.
        affine: Warp of each clip.

    Returns:
        () float32: the mean squared difference over the cells of a clip that show a part of the first frame, mean over
        clips; gradients pass to both maps.

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
    # Warped maps of one or two cells per side may have none inside; they then count 0.
    return ((squares * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1)).mean()


@checked
class SSLTIE(Objective):
    """A contrastive loss of two views, and the equivariance of their maps.

    Args:
        temperature: Temperature of the contrastive loss, > 0.
        contrast: Contrastive loss of both views: "lvs", or InfoNCE with this pooling and the best cell of every frame.
        equivariance_weight: Weight of the mean squared difference between warped maps and maps of warped frames, >= 0.
        max_degrees: Maximum rotation of the second view in either direction, in [0, 180].
        scale: Smallest and largest scale of the second view, 0 < low <= high <= 1.
        positive_threshold: Threshold of the sounding region in LVS; unused with InfoNCE.
        negative_threshold: Threshold of the silent region in LVS; unused with InfoNCE.
        threshold_width: Softness of both thresholds in LVS; unused with InfoNCE.

    Terms: those of the contrastive loss, means of both views; ``loss``, the weighted sum; ``loss_contrast`` and
    ``loss_equivariance``, without its weight.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, ones = torch.arange(4), torch.ones(8, 2)  # two views of four clips
        >>> same = avssl.Embeddings(ones, ones, video_map=torch.ones(8, 2, 1, 7, 7))
        >>> terms = SSLTIE()(same, None, BatchIndex(row, row, row)).terms
        >>> terms["loss_contrast"], round(terms["loss_equivariance"].item(), 6)  # log 5, and equal maps
        (tensor(1.6094), 0.0)
    """

    def __init__(
        self,
        temperature: Temperature = 0.07,
        contrast: Contrast = "lvs",
        equivariance_weight: PositiveOrZero = 1.0,
        max_degrees: Degrees = 30.0,
        scale: tuple[PositiveShare, PositiveShare] = (0.5, 1.0),
        positive_threshold: Cosine = 0.65,
        negative_threshold: Cosine = 0.4,
        threshold_width: Positive = 0.03,
    ) -> None:
        super().__init__()
        if contrast not in get_args(Contrast):
            raise InputError(f'contrast ({contrast!r}) must be one of "lvs", "pooled", "max", "both".')
        self.equivariance_weight = equivariance_weight
        self.needs = self.needs_of({"max_degrees": max_degrees, "scale": scale})
        self.view_warp = RandomAffine(max_degrees, (scale[0], scale[1]))
        self.contrast: Objective
        if contrast == "lvs":
            self.contrast = LVS(temperature, positive_threshold, negative_threshold, threshold_width)
        else:
            self.contrast = InfoNCE(temperature, contrast, "space")

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        low, high = options["scale"]
        return ObjectiveNeeds(num_views=2, view_warp=RandomAffine(options["max_degrees"], (low, high)), maps=True)

    def extra_repr(self) -> str:
        return f"equivariance_weight={self.equivariance_weight}, {self.view_warp}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

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
        raise InputError("SSLTIE needs Embeddings.video_map; call the model with needs_maps=objective.needs.maps.")
    return own_cosines(view.video_map, view.audio)
