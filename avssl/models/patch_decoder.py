"""Decoder of masked patches: a small transformer from visible patches to the values of all of them.

Sources: the decoder of MAE (He et al., CVPR 2022), https://arxiv.org/abs/2111.06377, section 3, over the patches of
both modalities as in CAV-MAE (Gong et al., ICLR 2023), https://arxiv.org/abs/2210.07839. The predictor of I-JEPA
(Assran et al., CVPR 2023), https://arxiv.org/abs/2301.08243, is the same network with latents as its values. A learned
token stands for every patch that is to be predicted or was not seen::

    visible patches of video   ─┐                          ┌─ values of all video patches
    tokens of its other patches ├─ + positions ─ blocks ───┤
    visible patches of audio   ─┤                          └─ values of all audio patches
    tokens of its other patches ┘

Dimensions: B clips, G images of a clip, L patches of a clip, K visible ones, C width of the encoder, D of the decoder.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.models.vit import transformer_blocks


@dataclass(frozen=True, eq=False)
class VisiblePatches:
    """Patches of one modality that a decoder sees."""

    tokens: Tensor
    """(B, K, C)."""
    index: Tensor
    """(B, K) int64 numbers of the patches among the L of the clip."""


class PatchDecoder(nn.Module):
    """Predicts the patches of both modalities.

    Args:
        in_features: C of each modality.
        out_features: Numbers of a predicted patch of each modality.
        width: D.
        num_blocks: Transformer blocks.
        num_heads: Attention heads of a block; divides the width.
    """

    def __init__(
        self,
        in_features: Mapping[Modality, int],
        out_features: Mapping[Modality, int],
        width: int,
        num_blocks: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.width = width
        self.project = nn.ModuleDict({name: nn.Linear(count, width) for name, count in in_features.items()})
        self.unseen = nn.ParameterDict({name: nn.Parameter(torch.empty(width)) for name in in_features})
        self.modality = nn.ParameterDict({name: nn.Parameter(torch.empty(width)) for name in in_features})
        for token in (*self.unseen.values(), *self.modality.values()):
            nn.init.normal_(token, std=0.02)
        self.blocks = nn.Sequential(*transformer_blocks(num_blocks, width, num_heads, norm_eps=1e-6))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predict = nn.ModuleDict({name: nn.Linear(width, count) for name, count in out_features.items()})

    def forward(
        self,
        visible: Mapping[Modality, VisiblePatches],
        grids: Mapping[Modality, tuple[int, int, int]],
        wanted: Collection[Modality],
    ) -> dict[Modality, Tensor]:
        """Return (B, L, values) of all patches of each wanted modality.

        Args:
            visible: Patches of one modality or of both.
            grids: Images, rows and columns of the patches of a clip.
            wanted: Modalities to predict, seen or not.
        """
        num_clips = len(next(iter(visible.values())).tokens)
        parts: dict[Modality, Tensor] = {}
        for name in grids:
            if name in wanted or name in visible:
                positions = grid_positions(grids[name], self.width, self.norm.weight.device)
                parts[name] = self._part(name, visible.get(name), positions, num_clips, name in wanted)
        tokens = self.norm(self.blocks(torch.cat(list(parts.values()), dim=1)))
        outputs = dict(zip(parts, tokens.split([part.shape[1] for part in parts.values()], dim=1), strict=True))
        return {name: self.predict[name](outputs[name]) for name in parts if name in wanted}

    def units(self) -> list[nn.Module]:
        """Return the transformer blocks."""
        return list(self.blocks)

    def _part(
        self, name: Modality, seen: VisiblePatches | None, positions: Tensor, num_clips: int, is_wanted: bool
    ) -> Tensor:
        """Return the tokens of one modality: (B, K, D) of the visible patches, or (B, L, D) if it is wanted."""
        marked = positions + self.modality[name]
        unseen = (marked + self.unseen[name]).expand(num_clips, -1, -1)
        if seen is None:
            return unseen
        tokens = self.project[name](seen.tokens) + marked[seen.index]
        if not is_wanted:
            return tokens
        return unseen.to(tokens.dtype).scatter(1, seen.index[..., None].expand_as(tokens), tokens)


def grid_positions(grid: tuple[int, int, int], width: int, device: torch.device | None = None) -> Tensor:
    """Return (L, width) fixed sines and cosines of the image, row and column of each patch, as in MAE.

    Each of the three has a third of the width, rounded down to even; what is left over is 0.
    """
    half = width // 6
    waves = 1e4 ** (-torch.arange(half, device=device) / max(1, half))
    axes = torch.meshgrid(*(torch.arange(size, device=device) for size in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * waves for axis in axes]  # (L, half) each
    values = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.nn.functional.pad(values, (0, width - values.shape[1]))
