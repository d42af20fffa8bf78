"""One vision transformer for both modalities: the blocks of the video tower on the patches of spectrograms.

Source: one shared transformer as in AVSiam (Lin and Bertasius, ECCV 2024), https://arxiv.org/abs/2403.19638; blocks of
its own below the shared ones, and normalization of its own in them, as in CAV-MAE (Gong et al., ICLR 2023),
https://arxiv.org/abs/2210.07839. Patch embeddings of public weights are summed over the colors and resized, as in AST
(Gong et al., 2021), https://arxiv.org/abs/2104.01778, section 2.2.

::

    frames      ─ patches + positions ─┐
                                       ├─ blocks ─ norm ─ map of each modality
    spectrogram ─ patches + positions ─┘

Dimensions: B clips, C width, S tokens; T', F' cells of the map.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from avssl.core.errors import InputError
from avssl.core.ranges import Blocks, Count, CountOrZero, checked
from avssl.models.blocks import Detail
from avssl.models.encoder import Encoder
from avssl.models.foreign.backbone import parameters_by_block
from avssl.models.foreign.libraries import library
from avssl.models.foreign.spec import Spec, merged
from avssl.models.foreign.timm import TimmEncoder, create_network, load_network
from avssl.models.foreign.timm_vit import check_vit, patch_tokens, patch_values, through_blocks
from avssl.models.foreign.tower import hold, without_adapters
from avssl.models.foreign.weights import weight_folder
from avssl.models.tokens import PatchTokens


@checked
class SharedVit(Encoder):
    """Audio encoder with the transformer blocks of a video encoder of timm.

    Audio (B, 1, time, freq) to (B, C, time/patch, freq/patch), rounded up: the last patches are filled with zeros, the
    mean of standardized spectrograms. Patch embedding, positions, class and register tokens are its own and always
    trained; public weights, frozen blocks and adapters are settings of the video encoder and hold for both.

    Args:
        trunk: The video encoder whose blocks are shared, a vision transformer of timm.
        patch: Columns and bins of a patch.
        num_columns: Patches along time that there are positions for; those of other lengths are interpolated.
        num_rows: Patches along frequency that there are positions for; those of other sizes are interpolated.
        own_blocks: Number of first blocks that are its own, copies of the trunk's at the start. CAV-MAE shares the last
            of twelve.
        own_norms: Give the shared blocks and the last layer a normalization of its own for audio.
        pool: Pooling of all cells into one vector; "token" takes the class token, "attention" learns which cells count.

    Raises:
        InputError: If the video encoder is no vision transformer of timm, or an option does not fit it.
    """

    def __init__(
        self,
        trunk: Encoder,
        *,
        patch: Blocks = 16,
        num_columns: Count = 13,
        num_rows: Blocks = 4,
        own_blocks: CountOrZero = 0,
        own_norms: bool = False,
        pool: Literal["max", "mean", "attention", "token"] = "mean",
    ) -> None:
        if not isinstance(trunk, TimmEncoder):
            raise InputError(
                "shared_vit shares the blocks of a vision transformer of timm, but the video encoder is a "
                f"{type(trunk).__name__}: set model.video.name to timm, and model.video.backbone to a vit."
            )
        theirs: Any = trunk.backbone.network
        spec = trunk.backbone.spec
        check_vit(theirs, spec.backbone)
        depth = len(theirs.blocks)
        if own_blocks >= depth:
            raise InputError(f"own_blocks ({own_blocks}) must be below {depth}, the number of blocks of the trunk.")
        if own_blocks and trunk.has_adapters:
            raise InputError("own_blocks is for full training; lora keeps the weights of all blocks fixed and shared.")
        if pool == "token" and theirs.cls_token is None:
            raise InputError(f'pool ("token") needs a class token, and {spec.backbone} has none: take "mean".')
        super().__init__(
            "audio",
            theirs.num_features,
            tuple(f"block.{number}" for number in range(depth)),
            "mean" if pool == "token" else pool,
        )
        self.pools_map = pool != "token"
        own = {"in_chans": 1, "img_size": [patch * num_columns, patch * num_rows], "patch_size": patch, "depth": 0}
        network = create_network(Spec(spec.backbone, merged(spec.config, own | {"dynamic_img_pad": True})))
        network.blocks = nn.Sequential(
            *(copy.deepcopy(block).requires_grad_(True) for block in theirs.blocks[:own_blocks]),
            *(_with_own_norms(block) if own_norms else block for block in theirs.blocks[own_blocks:]),
        )
        if own_norms:
            network.norm.load_state_dict(theirs.norm.state_dict())
        else:
            network.norm = theirs.norm
        network.grad_checkpointing = theirs.grad_checkpointing
        self.network = network
        self.pretrained, self._spec = trunk.pretrained, spec
        self._held = [name for name in trunk.held_blocks if int(name.rpartition(".")[2]) >= own_blocks]

    @property
    def patch_values(self) -> int:
        """Numbers of a patch."""
        return patch_values(self.network)

    def patch_tokens(self, x: Tensor) -> PatchTokens:
        """Return the tokens of (B, 1, time, freq) in front of the blocks; rows of patches follow time."""
        self.check_input(x)
        return patch_tokens(self.network, x)

    def trunk(self, tokens: Tensor) -> Tensor:
        """Return the (B, S, C) output of all blocks and the last normalization for any (B, S, C) tokens."""
        return through_blocks(self.network, tokens)

    def forward_pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        patches = self.patch_tokens(x)
        output = self.trunk(patches.tokens)
        features = _map(patches, output)
        return (self.pool(features) if self.pools_map else output[:, 0]), features

    def forward_features(self, x: Tensor) -> Tensor:
        patches = self.patch_tokens(x)
        return _map(patches, self.trunk(patches.tokens))

    def blocks(self) -> dict[str, nn.Module]:
        return dict(zip(self.stage_names, self.network.blocks, strict=True))

    def units(self) -> list[nn.Module]:
        return list(self.network.blocks)

    def forward_stages(self, x: Tensor, detail: Detail = "stages") -> dict[str, Tensor]:
        if detail not in ("stages", "blocks"):
            raise InputError(f'detail ({detail!r}) must be "stages" or "blocks".')
        patches = self.patch_tokens(x)
        tokens, maps = patches.tokens, {}
        for name, block in self.blocks().items():
            tokens = block(tokens)
            maps[name] = _map(patches, tokens if name != self.stage_names[-1] else self.network.norm(tokens))
        return maps

    def parameters_by_depth(self) -> Iterator[tuple[int, list[nn.Parameter]]]:
        if self.attention is not None:
            yield 0, list(self.attention.parameters())
        for depth, parameters in enumerate(reversed(list(parameters_by_block(self.network, self.blocks())))):
            yield depth, list(parameters.values())

    def train(self, mode: bool = True) -> Self:
        """Set the mode as PyTorch does, but keep fixed blocks of the trunk in evaluation mode, as the video tower."""
        super().train(mode)
        blocks = self.blocks()
        for name in self._held if mode else []:
            hold(blocks[name])
        return self

    @torch.no_grad()
    def load_pretrained(self) -> None:
        """Load the public weights of the trunk in place; colors of patches are summed, patches and positions resized.

        Raises:
            WeightsError: If they are missing, in another format, or of another network.
        """
        if not self.pretrained:
            return
        theirs: Any = load_network(self._spec, weight_folder(self.pretrained))
        entries, found = without_adapters(self.network), theirs.state_dict()
        layers, ours = library("timm.layers"), self.network.patch_embed
        patches = library("timm.models").adapt_input_conv(1, found["patch_embed.proj.weight"])
        found["patch_embed.proj.weight"] = layers.resample_patch_embed(patches, list(ours.patch_size))
        if "pos_embed" in found:
            num_extra = 0 if theirs.no_embed_class else theirs.num_prefix_tokens
            sizes = ours.grid_size, theirs.patch_embed.grid_size
            found["pos_embed"] = layers.resample_abs_pos_embed(found["pos_embed"], *sizes, num_extra)
        for name, value in entries.items():
            value.copy_(found[name])


def _with_own_norms(block: nn.Module) -> nn.Module:
    """Return a block with copies of the normalizations before attention and MLP, which share all other parts."""
    shared = {id(part): part for name, part in block.named_children() if not name.startswith("norm")}
    own: nn.Module = copy.deepcopy(block, shared)
    for name, part in own.named_children():
        if name.startswith("norm"):
            part.requires_grad_(True)
    return own


def _map(patches: PatchTokens, tokens: Tensor) -> Tensor:
    """Return the (B, C, T', F') map of (B, S, C) tokens."""
    return patches.patches_of(tokens).transpose(1, 2).unflatten(2, patches.grid)
