"""CAV-MAE: contrast of masked clips and reconstruction of the masked patches from both modalities.

Source: Gong et al., "Contrastive Audio-Visual Masked Autoencoder", ICLR 2023, https://arxiv.org/abs/2210.07839: the sum
of InfoNCE, times 0.01, and of the errors of the masked patches of video and of audio. Several mask ratios are those
of AVSiam (Lin and Bertasius, ECCV 2024), https://arxiv.org/abs/2403.19638.

Differences: the contrast has both directions; the two modalities meet in the decoder, not in a layer of the
encoder, so that a model of one modality embeds as it was trained; several frames of a clip hide the same patches.

Dimensions: B clips on this rank, L patches of a clip, P numbers of a patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms, Patches
from avssl.core.distributed import gather_together
from avssl.core.errors import InputError
from avssl.core.needs import MaskedPatches, ObjectiveNeeds
from avssl.core.ranges import Blocks, Channels, PositiveOrZero, ShareBelowOne, Temperature, checked
from avssl.objectives.objective import Objective
from avssl.objectives.patches import masked_counts, masked_patch_loss
from avssl.objectives.scores import check_temperature, pooled_scores, statistics, symmetric_cross_entropy


@checked
class CavMae(Objective):
    """InfoNCE of the embeddings of the visible patches, plus the errors of the predicted hidden patches.

    Both encoders must be vision transformers, which skip the hidden patches: a step takes less time with a larger
    ratio. The decoder belongs to the model and to its releases; embeddings, probes and maps do not use it.

    Args:
        mask_ratios: Shares of the patches of a clip that are hidden. With several, each clip draws one of them.
        contrast_weight: Weight of InfoNCE; 0 leaves it out.
        reconstruction_weight: Weight of the errors of video and of audio patches; 0 leaves them out.
        temperature: Softmax temperature of the contrast, > 0.
        normalize_patches: Predict each patch standardized by its own mean and variance.
        decoder_width: Width of the decoder.
        decoder_blocks: Transformer blocks of the decoder.
        decoder_heads: Attention heads of a block; divides the width.

    Terms: ``loss``; ``loss_contrast``, ``loss_video`` and ``loss_audio``, its parts without weights (1 is the error of
    a constant patch, if normalized); ``hidden_share``, the share of hidden patches; ``accuracy_v2a``, ``accuracy_a2v``,
    ``cosine_positive`` and ``cosine_negative``.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex, Patches
        >>> row, hidden = torch.arange(2), torch.ones(2, 9, dtype=torch.bool)
        >>> patches = Patches(values=torch.zeros(2, 9, 48), hidden=hidden, from_both=torch.full((2, 9, 48), 0.5))
        >>> clips = avssl.Embeddings(torch.randn(2, 8), torch.randn(2, 8), video_patches=patches, audio_patches=patches)
        >>> CavMae(contrast_weight=0.0)(clips, None, BatchIndex(row, row, row)).total  # 0.5² of video and of audio
        tensor(0.5000)
    """

    def __init__(
        self,
        mask_ratios: tuple[ShareBelowOne, ...] = (0.75,),
        contrast_weight: PositiveOrZero = 0.01,
        reconstruction_weight: PositiveOrZero = 1.0,
        temperature: Temperature = 0.05,
        normalize_patches: bool = True,
        decoder_width: Channels = 512,
        decoder_blocks: Blocks = 8,
        decoder_heads: Blocks = 16,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        if contrast_weight == reconstruction_weight == 0:
            raise InputError("contrast_weight and reconstruction_weight must not both be 0.")
        self.contrast_weight, self.reconstruction_weight = contrast_weight, reconstruction_weight
        self.temperature, self.normalize_patches = temperature, normalize_patches
        self.needs = self.needs_of(
            {
                "mask_ratios": mask_ratios,
                "decoder_width": decoder_width,
                "decoder_blocks": decoder_blocks,
                "decoder_heads": decoder_heads,
            }
        )

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        masked = MaskedPatches(
            tuple(options["mask_ratios"]),
            "pixels",
            width=options["decoder_width"],
            num_blocks=options["decoder_blocks"],
            num_heads=options["decoder_heads"],
        )
        return ObjectiveNeeds(masked=masked)

    def extra_repr(self) -> str:
        return (
            f"contrast_weight={self.contrast_weight}, reconstruction_weight={self.reconstruction_weight}, "
            f"temperature={self.temperature}, normalize_patches={self.normalize_patches}, masked={self.needs.masked}"
        )

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is more than one view of a clip, or the model predicted no patches.
        """
        self.check_views(online, index)
        sides = [_checked(patches) for patches in (online.video_patches, online.audio_patches)]
        with torch.autocast(online.video.device.type, enabled=False):
            scores = pooled_scores(*gather_together(online.video, online.audio))
            contrast = symmetric_cross_entropy(*scores, self.temperature)
            counts = masked_counts(*(mask for _, _, mask in sides))
            video, audio = (
                masked_patch_loss(*side, self.normalize_patches, count=count)
                for side, count in zip(sides, counts, strict=True)
            )
        total = self.contrast_weight * contrast + self.reconstruction_weight * (video + audio)
        hidden = torch.cat([side[2].flatten(1) for side in sides], dim=1)
        parts = {"loss_contrast": contrast, "loss_video": video, "loss_audio": audio}
        return LossTerms(
            total,
            {
                "loss": total.detach(),
                **{name: value.detach() for name, value in parts.items()},
                "hidden_share": hidden.float().mean(),
                **statistics(*(each.detach() for each in scores)),
            },
        )


def _checked(patches: Patches | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return prediction, target and mask."""
    if patches is None or patches.from_both is None or patches.values is None or patches.hidden is None:
        raise InputError(
            "CavMae needs Embeddings.video_patches and audio_patches with pixels and predictions: give the model "
            "patch_prediction, and call it with the clips' keys."
        )
    return patches.from_both, patches.values, patches.hidden
