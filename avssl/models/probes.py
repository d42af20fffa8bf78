"""Classifiers on frozen feature maps: one linear layer per stage, or one attention query.

Dimensions: B clips, C channels, K classes; a map's cells are whatever follows its channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avssl.core.errors import InputError


class LayerProbes(nn.Module):
    """BatchNorm and a linear layer on the flattened map of every stage, side by side.

    Source: the Kinetics probe of AVID (https://arxiv.org/abs/2004.12943): four classifiers on the pooled maps of four
    stages, trained in parallel. They share no parameter, so each is what it would be alone.

    Args:
        num_features: C x cells by the name of the stage.
        num_classes: K.

    Raises:
        ValueError: If there is no stage.
    """

    def __init__(self, num_features: Mapping[str, int], num_classes: int) -> None:
        super().__init__()
        if not num_features:
            raise InputError("num_features names no stage.")
        self.probes = nn.ModuleDict(
            {
                _module_name(name): nn.Sequential(nn.BatchNorm1d(size), nn.Linear(size, num_classes))
                for name, size in num_features.items()
            }
        )

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return (B, K) logits by stage from (B, C, ...) maps by stage."""
        return {name: self.probes[_module_name(name)](value.flatten(1)) for name, value in maps.items()}


def _module_name(stage: str) -> str:
    """Return the name of a stage or block without a point, which PyTorch does not allow in names of modules."""
    return stage.replace(".", "/")


class AttentiveProbe(nn.Module):
    """One learned query that attends to the cells of the last map, and a linear layer.

    Sources: the attentive probing of CAE (https://arxiv.org/abs/2202.03026, section 4.1), which V-JEPA
    (https://arxiv.org/abs/2404.08471) uses for video. A cross-attention, LayerNorm and a linear layer, without
    V-JEPA's perceptron between; convolutional maps bring no position encodings, and none are added.

    Args:
        num_features: C of the map; a multiple of ``num_heads``.
        num_classes: K.
        num_heads: Heads of the attention.

    Raises:
        ValueError: If the heads do not divide the features.
    """

    def __init__(self, num_features: int, num_classes: int, num_heads: int = 8) -> None:
        super().__init__()
        if num_heads < 1 or num_features % num_heads:
            raise InputError(f"num_features ({num_features}) must be a multiple of num_heads ({num_heads}).")
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, num_features))
        self.norm_cells = nn.LayerNorm(num_features)
        self.attention = nn.MultiheadAttention(num_features, num_heads, batch_first=True)
        self.norm_found = nn.LayerNorm(num_features)
        self.linear = nn.Linear(num_features, num_classes)

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return (B, K) logits from the (B, C, ...) map of one stage, both by the stage's name."""
        ((name, features),) = maps.items()
        cells = self.norm_cells(features.flatten(2).transpose(1, 2))
        query = self.query.expand(len(cells), -1, -1)
        found, _ = self.attention(query, cells, cells, need_weights=False)
        return {name: self.linear(self.norm_found(query + found)[:, 0])}
