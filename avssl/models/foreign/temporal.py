"""Attention over time on top of an image backbone.

Source: the late temporal transformer of Arnab et al., 2021 (ViViT, model 2), https://arxiv.org/abs/2103.15691, applied
to each cell of the map, so that the map keeps its height and width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_HEAD_CHANNELS = 64


class TemporalTransformer(nn.Module):
    """Transformer layers over the frames of each cell, which begin as the identity.

    Args:
        channels: C of the map.
        num_layers: Number of layers, before which each frame gets a sinusoidal code of its number.
    """

    def __init__(self, channels: int, num_layers: int) -> None:
        super().__init__()
        heads = max(1, channels // _HEAD_CHANNELS)
        heads = next(count for count in range(heads, 0, -1) if channels % count == 0)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                channels, heads, 4 * channels, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(num_layers)
        )
        for layer in self.layers:
            assert isinstance(layer, nn.TransformerEncoderLayer), "built above"
            nn.init.zeros_(layer.self_attn.out_proj.weight)
            nn.init.zeros_(layer.linear2.weight)
            nn.init.zeros_(layer.linear2.bias)

    def forward(self, cells: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to the same shape."""
        batch, channels, frames, height, width = cells.shape
        rows = cells.permute(0, 3, 4, 2, 1).reshape(-1, frames, channels)  # (B * H * W, T, C)
        x = rows + _codes(frames, channels, rows)
        start = x
        for layer in self.layers:
            x = layer(x)
        x = rows + (x - start)  # the codes steer attention and are not part of the output
        return x.view(batch, height, width, frames, channels).permute(0, 4, 3, 1, 2)


def _codes(count: int, channels: int, like: Tensor) -> Tensor:
    """Return the (count, channels) sinusoidal codes of Vaswani et al., 2017, https://arxiv.org/abs/1706.03762."""
    place = torch.arange(count, device=like.device, dtype=torch.float32)[:, None]
    half = torch.arange((channels + 1) // 2, device=like.device, dtype=torch.float32)
    angles = place * torch.exp(-math.log(10_000.0) * 2 * half / channels)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :channels].to(like.dtype)
