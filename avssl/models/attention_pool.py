"""Attention pooling: a learned query chooses the cells of a map that make its vector.

Source: Lee et al., 2019 (Set Transformer), https://arxiv.org/abs/1810.00825, section 3.2; SigLIP pools its tokens so.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_HEAD_CHANNELS = 64


class AttentionPool(nn.Module):
    """Weighted mean of the cells of a map, by one learned query for each group of channels.

    Args:
        channels: C of the map. Groups have 64 channels, or as many as divide C evenly.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_heads = next(n for n in range(max(1, channels // _HEAD_CHANNELS), 0, -1) if channels % n == 0)
        self.norm = nn.LayerNorm(channels)
        self.key = nn.Linear(channels, channels)
        self.query = nn.Parameter(torch.zeros(1, channels))  # every cell counts the same at the start

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, ...) to (B, C)."""
        cells = features.flatten(2).transpose(1, 2)  # (B, N, C)
        keys = self.key(self.norm(cells)).unflatten(2, (self.num_heads, -1))  # (B, N, K, C / K)
        query = self.query.unflatten(1, (self.num_heads, -1))  # (1, K, C / K)
        scores = (keys * query[:, None]).sum(dim=3) / keys.shape[3] ** 0.5  # (B, N, K)
        values = cells.unflatten(2, (self.num_heads, -1))
        return (scores.softmax(dim=1)[..., None] * values).sum(dim=1).flatten(1)
