"""Vision transformers over the patches of frames and of spectrograms.

Source: Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, https://arxiv.org/abs/2010.11929, and for
spectrograms AST (Gong et al., 2021, https://arxiv.org/abs/2104.01778). Registers are those of Darcet et al., ICLR 2024,
https://arxiv.org/abs/2309.16588. The layers are PyTorch's own.

A class token and registers take part in the attention and are kept apart from the map, whose cells are patches::

    tokens   | class | patch 1 ... patch P | register 1 ... register R |
    map                (B, C, T', H', W') or (B, C, T', F')

Dimensions: B clips, N images (frames of all clips, or spectrograms), C width, P patches, S tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.core.ranges import Blocks, Channels, Count, CountOrZero, Positive, checked
from avssl.models.blocks import Detail
from avssl.models.deterministic import resize_positions
from avssl.models.encoder import Encoder
from avssl.models.tokens import PatchTokens

TokenPooling = Literal["max", "mean", "attention", "class"]


def transformer_blocks(
    num_blocks: int, width: int, num_heads: int, norm_eps: float
) -> list[nn.TransformerEncoderLayer]:
    """Build blocks that normalize before attention and before an MLP four times as wide, with GELU and no dropout.

    Raises:
        ValueError: If the heads do not divide the width.
    """
    if width % num_heads:
        raise InputError(f"num_heads ({num_heads}) must divide width ({width}) evenly.")
    return [
        nn.TransformerEncoderLayer(
            width, num_heads, 4 * width, 0.0, "gelu", layer_norm_eps=norm_eps, batch_first=True, norm_first=True
        )
        for _ in range(num_blocks)
    ]


class PatchEmbedding(nn.Module):
    """Tokens of images: a class token, patches with their positions, and registers.

    Args:
        in_channels: Channels of an image.
        width: C.
        patch: Height and width of a patch.
        grid: Rows and columns of patches that there are positions for.
        class_token: Add a class token.
        num_registers: R.
    """

    def __init__(
        self, in_channels: int, width: int, patch: int, grid: tuple[int, int], class_token: bool, num_registers: int
    ) -> None:
        super().__init__()
        self.patch, self.num_registers, self.has_class = patch, num_registers, class_token
        self.position = nn.Parameter(torch.empty(1, width, *grid))
        self.class_token = nn.Parameter(torch.empty(1, 1, width)) if class_token else None
        self.registers = nn.Parameter(torch.empty(1, num_registers, width)) if num_registers else None
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)
        self.projection = nn.Conv2d(in_channels, width, patch, stride=patch)

    def forward(self, images: Tensor, position: Tensor) -> Tensor:
        """Return the (N, S, C) tokens of (N, channels, rows, columns) images."""
        patches = (self.projection(images) + position).flatten(2).transpose(1, 2)
        parts = [self.class_token, patches, self.registers]
        return torch.cat([part.expand(patches.shape[0], -1, -1) for part in parts if part is not None], dim=1)


class VitEncoder(Encoder):
    """Base class: patches, blocks and a last normalization; subclasses say what the images are.

    Args:
        modality: ``"video"`` or ``"audio"``.
        patches: Makes the tokens.
        blocks: Blocks that map (N, S, C) to the same.
        register_blocks: Number of first blocks that have the registers; None for all.
        output: Maps the (N, S, C) tokens of the last block to (N, S, ``num_features``).
        num_features: Width of the output.
        pool: ``"max"``, ``"mean"`` or ``"attention"`` over the map, or ``"class"`` for the class token.

    Raises:
        ValueError: If ``pool`` needs a class token that there is none of.
    """

    def __init__(
        self,
        modality: Modality,
        patches: PatchEmbedding,
        blocks: Sequence[nn.Module],
        register_blocks: int | None,
        output: nn.Module,
        num_features: int,
        pool: TokenPooling,
    ) -> None:
        names = tuple(f"block{number}" for number in range(1, len(blocks) + 1))
        super().__init__(modality, num_features, ("patches", *names, "output"), "mean" if pool == "class" else pool)
        if pool == "class" and not patches.has_class:
            raise InputError('pool ("class") needs a class token: set class_token, or pool "mean".')
        self.pools_map = pool != "class"
        self.register_blocks = len(blocks) if register_blocks is None else register_blocks
        self.patches = patches
        for name, block in zip(names, blocks, strict=True):
            self.add_module(name, block)
        self.output = output

    def images(self, x: Tensor) -> Tensor:
        """Return the (N, channels, rows, columns) images of a batch."""
        raise NotImplementedError

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the (1, C, rows, columns) positions of a grid of patches."""
        raise NotImplementedError

    def to_map(self, cells: Tensor, num_clips: int) -> Tensor:
        """Return the map of B clips from the (N, C, rows, columns) cells of their images."""
        raise NotImplementedError

    @property
    def patch_values(self) -> int:
        """Numbers of a patch."""
        return self.patches.projection.in_channels * self.patches.patch**2

    def patch_tokens(self, x: Tensor) -> PatchTokens:
        """Return the tokens of all images of a batch in front of the blocks."""
        self.check_input(x)
        images, patch = self.images(x), self.patches.patch
        if images.shape[2] % patch or images.shape[3] % patch:
            raise InputError(
                f"the {self.modality} encoder {type(self).__name__} cuts its input into patches of {patch} x {patch}: "
                f"{images.shape[2]} x {images.shape[3]} must be multiples of {patch}."
            )
        grid = (images.shape[2] // patch, images.shape[3] // patch)
        return PatchTokens(self.patches(images, self.positions(grid)), grid, int(self.patches.has_class), images)

    def trunk(self, tokens: Tensor) -> Tensor:
        """Return the (N, S, C) output of all blocks and the last normalization for any (N, S, C) tokens."""
        *_, last = self._run(tokens)
        return last

    def forward_pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        patches = self.patch_tokens(x)
        tokens = self.trunk(patches.tokens)
        features = self._map(patches, tokens, x.shape[0])
        if self.pools_map:
            return self.pool(features), features
        return tokens[:, 0].unflatten(0, (x.shape[0], -1)).mean(dim=1), features  # the mean over frames

    def forward_features(self, x: Tensor) -> Tensor:
        patches = self.patch_tokens(x)
        return self._map(patches, self.trunk(patches.tokens), x.shape[0])

    def blocks(self) -> dict[str, nn.Module]:
        return self._stages()

    def units(self) -> list[nn.Module]:
        return [getattr(self, name) for name in self.stage_names[1:-1]]

    def forward_stages(self, x: Tensor, detail: Detail = "stages") -> dict[str, Tensor]:
        if detail not in ("stages", "blocks"):
            raise InputError(f'detail ({detail!r}) must be "stages" or "blocks".')
        patches = self.patch_tokens(x)
        steps = zip(self.stage_names, (patches.tokens, *self._run(patches.tokens)), strict=True)
        return {name: self._map(patches, tokens, x.shape[0]) for name, tokens in steps}

    def _run(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the (N, S, C) tokens of each stage behind the patches."""
        for number, name in enumerate(self.stage_names[1:]):
            if number == self.register_blocks and self.patches.num_registers:
                tokens = tokens[:, : -self.patches.num_registers]
            tokens = getattr(self, name)(tokens)
            yield tokens

    def _map(self, patches: PatchTokens, tokens: Tensor, num_clips: int) -> Tensor:
        cells = patches.patches_of(tokens).transpose(1, 2).unflatten(2, patches.grid)
        return self.to_map(cells, num_clips)


@checked
class VitFrames(VitEncoder):
    """Vision transformer on every frame separately; the defaults are ViT-B/16, 86 M parameters.

    Video (B, 3, T, H, W) to (B, width, T, H/patch, W/patch); positions of other frame sizes are interpolated.

    Args:
        width: Width of the tokens.
        num_blocks: Number of transformer blocks.
        num_heads: Attention heads of a block; divides the width.
        patch: Height and width of a patch, in pixels.
        grid: Patches along each side of a frame of the training size.
        class_token: Add a class token.
        num_registers: Register tokens.
        register_blocks: Number of first blocks that have the registers; None for all.
        norm_eps: Epsilon of the layer normalization.
        pool: Pooling of all cells of all frames into one vector; "class" takes the mean class token of the frames,
            "attention" learns which cells count.

    Raises:
        ValueError: As :class:`VitEncoder`, or if the heads do not divide the width.
    """

    frames_alone = True

    def __init__(
        self,
        width: Channels = 768,
        num_blocks: Blocks = 12,
        num_heads: Blocks = 12,
        patch: Blocks = 16,
        grid: Blocks = 14,
        class_token: bool = True,
        num_registers: CountOrZero = 0,
        register_blocks: Blocks | None = None,
        norm_eps: Positive = 1e-6,
        pool: TokenPooling = "mean",
    ) -> None:
        super().__init__(
            "video",
            PatchEmbedding(3, width, patch, (grid, grid), class_token, num_registers),
            transformer_blocks(num_blocks, width, num_heads, norm_eps),
            register_blocks,
            nn.LayerNorm(width, eps=norm_eps),
            width,
            pool,
        )

    def images(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(0, 1)  # (B * T, 3, H, W)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        if grid == self.patches.position.shape[2:]:
            return self.patches.position
        return resize_positions(self.patches.position, grid)

    def to_map(self, cells: Tensor, num_clips: int) -> Tensor:
        return cells.unflatten(0, (num_clips, -1)).transpose(1, 2)


@checked
class VitSpectrogram(VitEncoder):
    """Vision transformer on a spectrogram; the defaults are CAV-MAE's, 10 seconds of 128 bins.

    Audio (B, 1, time, freq) to (B, width, time/patch, freq/patch). Shorter audio has the first positions.

    Args:
        width: Width of the tokens.
        num_blocks: Number of transformer blocks.
        num_heads: Attention heads of a block; divides the width.
        patch: Columns and bins of a patch.
        num_columns: Patches along time that there are positions for.
        num_rows: Patches along frequency.
        class_token: Add a class token.
        num_registers: Register tokens.
        register_blocks: Number of first blocks that have the registers; None for all.
        norm_eps: Epsilon of the layer normalization.
        pool: Pooling of all cells into one vector; "class" takes the class token, "attention" learns which cells count.

    Raises:
        ValueError: As :class:`VitEncoder`, or if the heads do not divide the width.
    """

    def __init__(
        self,
        width: Channels = 768,
        num_blocks: Blocks = 12,
        num_heads: Blocks = 12,
        patch: Blocks = 16,
        num_columns: Count = 64,
        num_rows: Blocks = 8,
        class_token: bool = False,
        num_registers: CountOrZero = 0,
        register_blocks: Blocks | None = None,
        norm_eps: Positive = 1e-6,
        pool: TokenPooling = "mean",
    ) -> None:
        super().__init__(
            "audio",
            PatchEmbedding(1, width, patch, (num_rows, num_columns), class_token, num_registers),
            transformer_blocks(num_blocks, width, num_heads, norm_eps),
            register_blocks,
            nn.LayerNorm(width, eps=norm_eps),
            width,
            pool,
        )

    def images(self, x: Tensor) -> Tensor:
        return x.transpose(2, 3)  # (B, 1, freq, time)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        rows, columns = self.patches.position.shape[2:]
        if grid[0] != rows or grid[1] > columns:
            patch = self.patches.patch
            raise InputError(
                f"the audio encoder {type(self).__name__} takes {rows * patch} bins and at most {columns * patch} "
                f"columns, got {grid[0] * patch} bins and {grid[1] * patch} columns. Change the spectrogram, or "
                "num_rows and num_columns."
            )
        return self.patches.position[..., : grid[1]]

    def to_map(self, cells: Tensor, num_clips: int) -> Tensor:
        return cells.transpose(2, 3)
