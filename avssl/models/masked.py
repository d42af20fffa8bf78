"""Masked encoding: some patches of each clip are skipped, and predicted from the others.

Sources: MAE (He et al., CVPR 2022), https://arxiv.org/abs/2111.06377; both modalities at once as in CAV-MAE (Gong et
al., ICLR 2023), https://arxiv.org/abs/2210.07839; several ratios as in AVSiam (Lin and Bertasius, ECCV 2024),
https://arxiv.org/abs/2403.19638; latents in place of pixels as in I-JEPA (Assran et al., CVPR 2023),
https://arxiv.org/abs/2301.08243.

The mask of a clip is a function of its random key: neither its place in the batch, nor the rank, nor a resumed run
changes it. All frames of a clip hide the same patches, as in VideoMAE (https://arxiv.org/abs/2203.12602): a patch
can be copied from the next frame otherwise. Hidden patches do not pass the blocks of the encoder.

Dimensions: B clips, G images of a clip (frames, or one spectrogram), P patches of an image, L = G * P of a clip,
K visible ones of an image, C encoder features, D embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from avssl.core.batch import Modality, Patches
from avssl.core.draws import integers, uniform
from avssl.core.errors import InputError
from avssl.core.needs import MaskedPatches
from avssl.models.chunking import in_chunks
from avssl.models.encoder import Encoder
from avssl.models.heads import ProjectionHead
from avssl.models.patch_decoder import PatchDecoder, VisiblePatches
from avssl.models.tokens import PatchTokens, TokenEncoder

_OTHER: dict[Modality, Modality] = {"video": "audio", "audio": "video"}


@dataclass(frozen=True, eq=False)
class Side:
    """Encoder, head and input of one modality."""

    encoder: Encoder
    head: ProjectionHead
    x: Tensor
    """(B, 3, T, H, W) or (B, 1, time, freq)."""


@dataclass(frozen=True, eq=False)
class _Part:
    """Clips of a batch that are masked by one ratio, one modality of them."""

    pooled: Tensor
    """(b, C) over the visible patches."""
    visible: VisiblePatches
    """Their (b, G * K, C) tokens."""


class PatchPrediction(nn.Module):
    """Masks the patches of both modalities, and predicts them.

    Args:
        video_encoder: An encoder that can skip patches.
        audio_encoder: Another, or one with the same blocks.
        embedding_size: D.
        needs: Ratios, decoder and predicted values.

    Raises:
        InputError: If an encoder cannot skip patches.
    """

    def __init__(
        self, video_encoder: Encoder, audio_encoder: Encoder, embedding_size: int, needs: MaskedPatches
    ) -> None:
        super().__init__()
        self.needs = needs
        encoders: dict[Modality, TokenEncoder] = {"video": _checked(video_encoder), "audio": _checked(audio_encoder)}
        is_latent = needs.predicts == "latents"
        self.decoder = PatchDecoder(
            {name: embedding_size if is_latent else _features(each) for name, each in encoders.items()},
            {name: embedding_size if is_latent else each.patch_values for name, each in encoders.items()},
            needs.width,
            needs.num_blocks,
            needs.num_heads,
        )

    def forward(self, sides: Mapping[Modality, Side], keys: Tensor, chunk_size: int | None) -> dict[str, Any]:
        """Return embeddings of the visible patches, and the patches with their predictions.

        Args:
            sides: Both modalities of B clips.
            keys: (B,) int64 random keys of the clips.
            chunk_size: Clips that pass the blocks of an encoder at a time; None for all.

        Returns:
            ``video`` and ``audio`` (B, D); ``video_patches`` and ``audio_patches``.
        """
        tokens = {name: _tokens(side) for name, side in sides.items()}
        groups = self._groups(keys)
        parts = {
            name: [_encode(side, tokens[name], name, keys, rows, ratio, chunk_size) for rows, ratio in groups]
            for name, side in sides.items()
        }
        outputs: dict[str, Any] = {}
        for name, side in sides.items():
            pooled = _in_order([part.pooled for part in parts[name]], groups)
            if self.needs.predicts == "pixels":
                outputs[name] = side.head(pooled)
            else:
                outputs[name], parts[name] = _with_latents(side.head, pooled, parts[name])
        grids: dict[Modality, tuple[int, int, int]] = {
            name: (len(each.tokens) // len(keys), *each.grid) for name, each in tokens.items()
        }
        predicted = [
            self._predict({name: parts[name][number].visible for name in sides}, grids) for number in range(len(groups))
        ]
        for name in sides:
            hidden = _in_order([_hidden(part.visible, grids[name]) for part in parts[name]], groups)
            values = patch_values(tokens[name], len(keys)) if self.needs.predicts == "pixels" else None
            found = {
                source: _in_order([each[name][source] for each in predicted], groups).float()
                for source in predicted[0][name]
            }
            outputs[f"{name}_patches"] = Patches(values, hidden, **found)
        return outputs

    def whole(self, sides: Mapping[Modality, Side], chunk_size: int | None) -> dict[str, Any]:
        """Return embeddings of all patches, and as their values the (B, L, D) head on every patch."""
        outputs: dict[str, Any] = {}
        for name, side in sides.items():
            tokens, num_clips = _tokens(side), len(side.x)
            output = _through(side.encoder, tokens.tokens, chunk_size, len(tokens.tokens) // num_clips)
            cells = tokens.patches_of(output).unflatten(0, (num_clips, -1)).flatten(1, 2)
            outputs[name], latents = side.head.with_cells(_pool(side.encoder, output, cells), cells)
            outputs[f"{name}_patches"] = Patches(latents.float())
        return outputs

    def check_input(self, encoder: Encoder, x: Tensor) -> None:
        """Raise InputError unless the largest ratio hides a patch of input like ``x``, which may be on no device."""
        num_patches = _checked(encoder).patch_tokens(x).num_patches
        if _num_visible(num_patches, max(self.needs.ratios)) == num_patches:
            raise InputError(
                f"mask_ratios {self.needs.ratios} hide none of the {num_patches} patches of the {encoder.modality} "
                "encoder: larger ratios, or smaller patches."
            )

    def _groups(self, keys: Tensor) -> list[tuple[Tensor | None, float]]:
        """Return the rows of the clips of each ratio; None for all of them."""
        ratios = self.needs.ratios
        if len(ratios) == 1:
            return [(None, ratios[0])]
        chosen = integers(keys, "mask/ratio", 1, len(ratios))[:, 0]
        rows = [(chosen == number).nonzero()[:, 0] for number in range(len(ratios))]
        return [(each, ratio) for each, ratio in zip(rows, ratios, strict=True) if len(each)]

    def _predict(
        self, visible: Mapping[Modality, VisiblePatches], grids: Mapping[Modality, tuple[int, int, int]]
    ) -> dict[Modality, dict[str, Tensor]]:
        """Return (b, L, P) of each modality by the field of :class:`~avssl.core.batch.Patches`."""
        if self.needs.predicts == "pixels":
            return {name: {"from_both": x} for name, x in self.decoder(visible, grids, tuple(visible)).items()}
        found: dict[Modality, dict[str, Tensor]] = {name: {} for name in visible}
        for name, seen in visible.items():
            wanted = (_OTHER[name], name) if self.needs.own else (_OTHER[name],)
            for target, x in self.decoder({name: seen}, grids, wanted).items():
                found[target]["from_own" if target == name else "from_other"] = x
        return found


def visible_patches(keys: Tensor, modality: Modality, num_patches: int, ratio: float) -> Tensor:
    """Return the (B, K) int64 patches of an image that stay visible, ascending, as functions of the clips' keys."""
    order = uniform(keys, f"mask/{modality}", num_patches).argsort(dim=1)
    return order[:, : _num_visible(num_patches, ratio)].sort(dim=1).values


def patch_values(patches: PatchTokens, num_clips: int) -> Tensor:
    """Return the (B, L, P) float32 numbers of the patches of each clip: the rows of each channel in turn."""
    rows, columns = patches.grid
    return rearrange(patches.images.float(), "(b g) c (h p) (w q) -> b (g h w) (c p q)", b=num_clips, h=rows, w=columns)


def _checked(encoder: Encoder) -> TokenEncoder:
    if isinstance(encoder, TokenEncoder):
        return encoder
    raise InputError(
        f"the {encoder.modality} encoder {type(encoder).__name__} cannot skip patches, which the objective hides: "
        f"take a vision transformer, such as model.{encoder.modality}.name "
        f"{'vit_frames' if encoder.modality == 'video' else 'vit_spectrogram'}."
    )


def _features(encoder: TokenEncoder) -> int:
    assert isinstance(encoder, Encoder), "checked before"
    return encoder.num_features


def _num_visible(num_patches: int, ratio: float) -> int:
    return max(1, round(num_patches * (1 - ratio)))


def _tokens(side: Side) -> PatchTokens:
    assert isinstance(side.encoder, TokenEncoder), "checked in the constructor"
    return side.encoder.patch_tokens(side.x)


def _through(encoder: Encoder, tokens: Tensor, chunk_size: int | None, num_images: int) -> Tensor:
    """Return the output of the blocks, in chunks of clips of ``num_images`` images each."""
    assert isinstance(encoder, TokenEncoder), "checked in the constructor"
    if chunk_size is None:
        return encoder.trunk(tokens)
    output = in_chunks(encoder, lambda rows: (encoder.trunk(rows),), (tokens,), chunk_size * num_images)[0]
    assert output is not None, "the trunk always returns it"
    return output


def _pool(encoder: Encoder, output: Tensor, cells: Tensor) -> Tensor:
    """Return (b, C) of (b * G, S, C) output, whose patches are (b, cells, C)."""
    if encoder.pools_map:
        return encoder.pool(cells.transpose(1, 2))
    return output[:, 0].unflatten(0, (len(cells), -1)).mean(dim=1)


def _encode(
    side: Side,
    patches: PatchTokens,
    modality: Modality,
    keys: Tensor,
    rows: Tensor | None,
    ratio: float,
    chunk_size: int | None,
) -> _Part:
    """Run the encoder on the visible patches of some clips."""
    num_images, num_patches = len(patches.tokens) // len(keys), patches.num_patches
    if rows is not None:
        images = (rows[:, None] * num_images + torch.arange(num_images, device=rows.device)).flatten()
        patches, keys = replace(patches, tokens=patches.tokens[images]), keys[rows]
    kept = visible_patches(keys, modality, num_patches, ratio)  # (b, K)
    output = _through(side.encoder, patches.keep(kept.repeat_interleave(num_images, dim=0)), chunk_size, num_images)
    seen = output[:, patches.first : patches.first + kept.shape[1]]
    cells = seen.unflatten(0, (len(kept), num_images)).flatten(1, 2)  # (b, G * K, C)
    starts = torch.arange(num_images, device=kept.device)[:, None] * num_patches
    index = (kept[:, None] + starts).flatten(1)
    return _Part(_pool(side.encoder, output, cells), VisiblePatches(cells, index))


def _with_latents(head: ProjectionHead, pooled: Tensor, parts: list[_Part]) -> tuple[Tensor, list[_Part]]:
    """Return (B, D) embeddings, and the parts with the head on every visible patch."""
    tokens = [part.visible.tokens for part in parts]
    embedding, latents = head.with_cells(pooled, torch.cat([each.flatten(0, 1) for each in tokens]))
    split = latents.split([each.shape[0] * each.shape[1] for each in tokens])
    return embedding, [
        replace(part, visible=VisiblePatches(each.view(*part.visible.index.shape, -1), part.visible.index))
        for part, each in zip(parts, split, strict=True)
    ]


def _hidden(visible: VisiblePatches, grid: tuple[int, int, int]) -> Tensor:
    """Return the (b, L) mask of the patches that are not visible."""
    index = visible.index
    return index.new_ones(len(index), grid[0] * grid[1] * grid[2], dtype=torch.bool).scatter(1, index, False)


def _in_order(parts: list[Tensor], groups: list[tuple[Tensor | None, float]]) -> Tensor:
    """Return (B, ...) rows in the order of the batch from the rows of each group."""
    if len(parts) == 1:
        return parts[0]
    rows = torch.cat([each for each, _ in groups if each is not None])
    return torch.cat(parts)[rows.argsort()]
