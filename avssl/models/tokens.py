"""Tokens of a transformer between its patch embedding and its blocks, so that some of them can be left out.

Masked training runs the blocks on the patches that it keeps::

    patches = encoder.patch_tokens(x)
    output = encoder.trunk(patches.keep(indices))  # (N, S - P + K, C)

Dimensions: N images (frames of all clips, or spectrograms), S tokens, P patches, K kept patches, C width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PatchTokens:
    """Tokens of images: patches row by row, with class and register tokens before or behind them."""

    tokens: Tensor
    """(N, S, C), with their positions added."""
    grid: tuple[int, int]
    """Rows and columns of patches: P is their product."""
    first: int
    """Index of the first patch among the tokens."""
    images: Tensor
    """(N, channels, rows, columns) images that the patches divide evenly."""

    @property
    def num_patches(self) -> int:
        """P."""
        return self.grid[0] * self.grid[1]

    def patches_of(self, tokens: Tensor) -> Tensor:
        """Return the (N, P, C) patches of (N, S, C) tokens."""
        return tokens[:, self.first : self.first + self.num_patches]

    def keep(self, indices: Tensor) -> Tensor:
        """Return the tokens with some patches only, in the given order, and all class and register tokens.

        Args:
            indices: (N, K) numbers of patches, in [0, P).

        Returns:
            (N, S - P + K, C).
        """
        chosen = torch.take_along_dim(self.patches_of(self.tokens), indices[..., None], dim=1)
        last = self.first + self.num_patches
        return torch.cat([self.tokens[:, : self.first], chosen, self.tokens[:, last:]], dim=1)


@runtime_checkable
class TokenEncoder(Protocol):
    """An encoder whose blocks take any of its tokens."""

    @property
    def patch_values(self) -> int:
        """Numbers of a patch: channels times rows times columns."""

    def patch_tokens(self, x: Tensor, /) -> PatchTokens:
        """Return the tokens of (B, 3, T, H, W) or (B, 1, time, freq) in front of the blocks."""

    def trunk(self, tokens: Tensor, /) -> Tensor:
        """Return the (N, S, C) output of all blocks and the last normalization for (N, S, C) tokens."""
