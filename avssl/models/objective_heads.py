"""Learned layers behind the embeddings that objectives without negatives ask of the model.

Prototypes are those of SwAV, https://arxiv.org/abs/2006.09882, section 3, and the last layer of DINO's head,
https://arxiv.org/abs/2104.14294, section 3.1: unit vectors that are compared with the unit embedding. Several sets at
a time are the heads of SeLaVi, https://arxiv.org/abs/2006.13662, section 3.3. Predictors are those of BYOL,
https://arxiv.org/abs/2006.07733, section 3.2.

Dimensions: N clips (all views together), D embedding size, H sets of prototypes, K prototypes of a set.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.models.heads import HeadPair, mlp_bn


class Prototypes(nn.Module):
    """Sets of learned unit vectors.

    Args:
        embedding_size: D.
        count: K, prototypes of each set.
        num_sets: H, sets that assign the clips separately.

    Raises:
        ValueError: If there are fewer than two prototypes or no set.
    """

    def __init__(self, embedding_size: int, count: int, num_sets: int = 1) -> None:
        super().__init__()
        if count < 2 or num_sets < 1:
            raise InputError(f"prototypes: {num_sets} sets of {count}; at least 1 set of 2 prototypes are needed.")
        self.weight = nn.Parameter(F.normalize(torch.randn(num_sets, count, embedding_size), dim=-1))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the (N, H, K) float32 cosines of (N, D) embeddings with every prototype."""
        with torch.autocast(embeddings.device.type, enabled=False):
            unit = F.normalize(embeddings.float(), dim=-1)
            return torch.einsum("nd,hkd->nhk", unit, self.unit_vectors())

    def unit_vectors(self) -> Tensor:
        """Return the (H, K, D) float32 prototypes."""
        return F.normalize(self.weight.float(), dim=-1)


class ObjectiveHeads(nn.Module):
    """Prototypes and predictors of both modalities, on the embeddings of the model.

    Args:
        embedding_size: D.
        prototypes: K, prototypes of each set; 0 for none.
        prototype_sets: H.
        shared_prototypes: Both modalities are compared with the same prototypes.
        predictor_hidden: Width of the hidden layer of the predictors; 0 for none.

    Raises:
        ValueError: If nothing is requested, or a number is out of range.

    Example:
        >>> outputs = ObjectiveHeads(8, prototypes=10)(torch.randn(4, 8), torch.randn(4, 8))
        >>> outputs["video_scores"].shape
        torch.Size([4, 1, 10])
    """

    def __init__(
        self,
        embedding_size: int,
        *,
        prototypes: int = 0,
        prototype_sets: int = 1,
        shared_prototypes: bool = False,
        predictor_hidden: int = 0,
    ) -> None:
        super().__init__()
        if not prototypes and not predictor_hidden:
            raise InputError("objective heads without prototypes and predictors: leave them out of the model.")
        num_matrices = 0 if not prototypes else 1 if shared_prototypes else 2
        self.prototypes = nn.ModuleList(
            Prototypes(embedding_size, prototypes, prototype_sets) for _ in range(num_matrices)
        )
        self.predictors: HeadPair | None = None
        if predictor_hidden:
            video, audio = (mlp_bn(embedding_size, embedding_size, predictor_hidden, depth=2) for _ in range(2))
            self.predictors = HeadPair(video, audio)

    def forward(self, video: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """Return what is learned from (N, D) embeddings, by the names of :class:`~avssl.core.batch.Embeddings`."""
        outputs: dict[str, Tensor] = {}
        if self.prototypes:
            for name, embeddings, place in (("video", video, 0), ("audio", audio, -1)):
                prototypes = self.prototypes[place]
                assert isinstance(prototypes, Prototypes), "built so"
                outputs[f"{name}_scores"] = prototypes(embeddings)
                outputs[f"{name}_prototypes"] = prototypes.unit_vectors().detach()
        if self.predictors is not None:
            outputs["video_prediction"] = self.predictors.video(video)
            outputs["audio_prediction"] = self.predictors.audio(audio)
        return outputs


def objective_heads(needs: ObjectiveNeeds, embedding_size: int) -> ObjectiveHeads | None:
    """Build the heads that an objective needs; None if it needs none.

    Args:
        needs: ``objective.needs``.
        embedding_size: D.

    Example:
        >>> needs = avssl.create_objective("swav", embedding_size=8, prototypes=64).needs
        >>> objective_heads(needs, 8).prototypes[0].weight.shape
        torch.Size([1, 64, 8])
        >>> objective_heads(avssl.create_objective("info_nce").needs, 8) is None
        True
    """
    if not needs.prototypes and not needs.predictor_hidden:
        return None
    return ObjectiveHeads(
        embedding_size,
        prototypes=needs.prototypes,
        prototype_sets=needs.prototype_sets,
        shared_prototypes=needs.shared_prototypes,
        predictor_hidden=needs.predictor_hidden,
    )
