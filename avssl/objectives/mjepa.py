"""M-JEPA: latents of one modality are predicted from visible patches of the other.

Source: this project, after I-JEPA (Assran et al., CVPR 2023), https://arxiv.org/abs/2301.08243: a predictor maps
visible patches to the latents that a slowly moving copy of the model gives for patches that were not seen. Here it sees
one modality and predicts all patches of the other, which the copy encodes whole. There is no public code.

Differences: latents are the projection head on every patch, so that they have one size for both modalities and the
heads are trained; they are standardized patch by patch; the error is squared.

Dimensions: B clips on this rank, L patches of a clip, D embedding size.
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
from avssl.core.ranges import Blocks, Channels, PositiveOrZero, Share, ShareBelowOne, Temperature, checked
from avssl.objectives.objective import Objective
from avssl.objectives.patches import masked_patch_loss
from avssl.objectives.scores import check_temperature, pooled_scores, statistics, symmetric_cross_entropy


@checked
class MJepa(Objective):
    """Mean squared errors of the predicted latents of both modalities.

    Both encoders must be vision transformers. Nothing pulls the embeddings of a clip's two modalities together, so
    that search and maps need ``contrast_weight``; probes do not. Without the momentum model the encoder could reach
    a loss of 0 by giving every patch the same latents.

    Args:
        mask_ratios: Shares of the patches of a clip that are hidden. With several, each clip draws one of them.
        own_weight: Weight of the hidden patches of a modality, predicted from its own visible ones; 0 leaves them out.
        contrast_weight: Weight of InfoNCE between the embeddings of video and audio; 0 leaves it out.
        temperature: Softmax temperature of the contrast, > 0.
        momentum: Share of itself that the momentum model keeps in a step, in [0, 1]; use less for short runs.
        final_momentum: Share that it keeps at the end of the run.
        predictor_width: Width of the predictor.
        predictor_blocks: Transformer blocks of the predictor.
        predictor_heads: Attention heads of a block; divides the width.

    Terms: ``loss``; ``loss_v2a``, the error of audio predicted from video, ``loss_a2v`` and with ``own_weight``
    ``loss_own`` (1 is the error of a constant prediction); ``loss_contrast``;
    ``target_variance``, the mean variance of a latent over the patches of this rank, 0 after a collapse;
    ``accuracy_v2a``, ``accuracy_a2v``, ``cosine_positive`` and ``cosine_negative``.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex, Patches
        >>> row, patches = torch.arange(2), (Patches(from_other=torch.ones(2, 9, 8)), Patches(torch.zeros(2, 9, 8)))
        >>> video, audio = torch.randn(2, 8), torch.randn(2, 8)
        >>> clips, target = (avssl.Embeddings(video, audio, video_patches=x, audio_patches=x) for x in patches)
        >>> MJepa()(clips, target, BatchIndex(row, row, row)).total  # (1 - 0)²
        tensor(1.)
    """

    def __init__(
        self,
        mask_ratios: tuple[ShareBelowOne, ...] = (0.5,),
        own_weight: PositiveOrZero = 0.0,
        contrast_weight: PositiveOrZero = 0.0,
        temperature: Temperature = 0.1,
        momentum: Share = 0.996,
        final_momentum: Share = 1.0,
        predictor_width: Channels = 384,
        predictor_blocks: Blocks = 6,
        predictor_heads: Blocks = 12,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        self.own_weight, self.contrast_weight, self.temperature = own_weight, contrast_weight, temperature
        self.needs = self.needs_of(
            {
                "mask_ratios": mask_ratios,
                "own_weight": own_weight,
                "momentum": momentum,
                "final_momentum": final_momentum,
                "predictor_width": predictor_width,
                "predictor_blocks": predictor_blocks,
                "predictor_heads": predictor_heads,
            }
        )

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        masked = MaskedPatches(
            tuple(options["mask_ratios"]),
            "latents",
            own=options["own_weight"] > 0,
            width=options["predictor_width"],
            num_blocks=options["predictor_blocks"],
            num_heads=options["predictor_heads"],
        )
        return ObjectiveNeeds(
            masked=masked, target_momentum=options["momentum"], final_momentum=options["final_momentum"]
        )

    def extra_repr(self) -> str:
        return (
            f"own_weight={self.own_weight}, contrast_weight={self.contrast_weight}, temperature={self.temperature}, "
            f"momentum={self.needs.target_momentum}, final_momentum={self.needs.final_momentum}, "
            f"masked={self.needs.masked}"
        )

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms.

        Raises:
            ValueError: If there is more than one view of a clip, no target, or the models predicted no latents.
        """
        self.check_views(online, index)
        if target is None:
            raise InputError("MJepa needs the latents of a momentum model; PretrainTask makes one.")
        with torch.autocast(online.video.device.type, enabled=False):
            video = self._errors(online.video_patches, target.video_patches)
            audio = self._errors(online.audio_patches, target.audio_patches)
            scores = pooled_scores(*gather_together(online.video, online.audio))
            parts = {"loss_v2a": audio["other"], "loss_a2v": video["other"]}
            total = (audio["other"] + video["other"]) / 2
            if self.own_weight:
                parts["loss_own"] = (audio["own"] + video["own"]) / 2
                total = total + self.own_weight * parts["loss_own"]
            # Also without weight: what pools the embeddings needs a gradient on every rank, if 0.
            parts["loss_contrast"] = symmetric_cross_entropy(*scores, self.temperature)
            total = total + self.contrast_weight * parts["loss_contrast"]
        return LossTerms(
            total,
            {
                "loss": total.detach(),
                **{name: value.detach() for name, value in parts.items()},
                "target_variance": (video["variance"] + audio["variance"]) / 2,
                **statistics(*(each.detach() for each in scores)),
            },
        )

    def _errors(self, online: Patches | None, target: Patches | None) -> dict[str, Tensor]:
        """Return the errors of one modality by the modality that predicts, and the variance of its latents."""
        if online is None or target is None or online.from_other is None or target.values is None:
            raise InputError(
                "MJepa needs predictions in Embeddings.video_patches and audio_patches and the latents of the target: "
                "give the model patch_prediction, and call it with the clips' keys, and its copy with needs_patches."
            )
        latents = target.values
        everything = torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
        # All of them, on every rank: their number needs no exchange.
        count = torch.full((), everything.numel(), dtype=torch.float32, device=latents.device)
        errors = {"other": masked_patch_loss(online.from_other, latents, everything, count=count)}
        if self.own_weight:
            assert online.from_own is not None, "needs.masked.own asks for it"
            assert online.hidden is not None, "the online model has masks"
            errors["own"] = masked_patch_loss(online.from_own, latents, online.hidden)
        return errors | {"variance": latents.detach().flatten(0, 1).var(dim=0, correction=0).mean()}
