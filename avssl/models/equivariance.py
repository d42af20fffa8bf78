"""Equivariant branch: the embedding of an augmented clip, predicted from the clip itself and its augmentation.

Source: Kim et al., ICML 2024 (EquiAV), https://arxiv.org/abs/2403.09502, sections 3.2 and 3.3, and its code under the
MIT license, https://github.com/JongSuk1/EquiAV. There attention between the augmentation and the patches predicts;
here two layers do, on pooled features and the encoded augmentation, so that every encoder fits. The contrast between
the modalities stays that of the objective, on augmented clips.

Dimensions: B clips, C encoder features, D embedding size, P numbers that describe an augmentation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avssl.core.batch import AugmentedPair
from avssl.core.errors import InputError


class EquivariantBranch(nn.Module):
    """Predicts the features of an augmented clip of one modality, and projects both.

    Args:
        num_features: C.
        embedding_size: D.
        num_draws: P.
        hidden: Width of all hidden layers.
    """

    def __init__(self, num_features: int, embedding_size: int, num_draws: int, hidden: int = 256) -> None:
        super().__init__()
        self.num_draws = num_draws
        self.encode = nn.Sequential(nn.Linear(num_draws, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.predict = nn.Sequential(
            nn.LayerNorm(num_features + hidden),
            nn.Linear(num_features + hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, num_features),
        )
        self.head = nn.Sequential(
            nn.Linear(num_features, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, embedding_size)
        )

    def forward(self, features: Tensor, augmented: Tensor, draws: Tensor) -> AugmentedPair:
        """Return the predicted and the true (B, D) embeddings of augmented clips.

        Args:
            features: (B, C) of the clips as they are.
            augmented: (B, C) of the augmented clips.
            draws: (B, P) numbers that describe the augmentation of each clip.

        Raises:
            ValueError: If there are not P numbers of each clip.
        """
        if draws.shape != (len(features), self.num_draws):
            raise InputError(
                f"the equivariant branch takes ({len(features)}, {self.num_draws}) numbers of the augmentation, "
                f"got {tuple(draws.shape)}."
            )
        code = self.encode(draws.to(features.dtype))
        predicted = features + self.predict(torch.cat([features, code], dim=1))
        return AugmentedPair(self.head(predicted), self.head(augmented))
