"""Vision transformers of timm in two halves: tokens of patches, and the blocks behind them."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.errors import InputError
from avssl.models.foreign.libraries import library
from avssl.models.tokens import PatchTokens


def check_vit(network: nn.Module, name: str) -> None:
    """Raise InputError unless a network of timm is a plain vision transformer, whose blocks take tokens alone."""
    if type(network) is not library("timm.models").VisionTransformer:
        raise InputError(
            f"backbone ({name!r}) is a {type(network).__name__} of timm; its blocks cannot be run on tokens alone. "
            "Take a plain vision transformer, such as vit_small_patch16_224."
        )


def patch_tokens(network: Any, images: Tensor) -> PatchTokens:
    """Return the tokens of (N, channels, rows, columns) images in front of the blocks of a vision transformer."""
    tokens = network.norm_pre(network.patch_drop(network._pos_embed(network.patch_embed(images))))
    grid, patch = network.patch_embed.dynamic_feat_size(tuple(images.shape[-2:])), network.patch_embed.patch_size
    missing = [count * size - side for count, size, side in zip(grid, patch, images.shape[-2:], strict=True)]
    return PatchTokens(tokens, grid, network.num_prefix_tokens, F.pad(images, (0, missing[1], 0, missing[0])))


def patch_values(network: Any) -> int:
    """Return the numbers of a patch: channels times rows times columns."""
    return int(network.patch_embed.proj.in_channels * math.prod(network.patch_embed.patch_size))


def through_blocks(network: Any, tokens: Tensor) -> Tensor:
    """Return the (N, S, C) output of all blocks and the last normalization for (N, S, C) tokens."""
    if network.grad_checkpointing:
        tokens = library("timm.models").checkpoint_seq(network.blocks, tokens)
    else:
        tokens = network.blocks(tokens)
    output: Tensor = network.norm(tokens)
    return output
