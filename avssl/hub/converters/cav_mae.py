"""The checkpoint layouts of CAV-MAE and CAV-MAE Sync.

Sources: Gong et al., ICLR 2023, https://arxiv.org/abs/2210.07839 (CAV-MAE); Araujo et al., CVPR 2025,
https://arxiv.org/abs/2505.01237 (CAV-MAE Sync). A file is a flat state dict, whose keys begin with ``module.``.

Eleven blocks of each modality are followed by one that both share, in which each modality has normalizations of its
own. Audio and video never meet in it where they are compared, so each tower gets its own copy. Tensors that only
reconstruct masked patches are left out, and so are those that the authors' program holds but never uses.

CAV-MAE compares the mean of all tokens. Sync adds registers to the blocks of each modality and, where it has a class
token, compares that one; its audio is the four seconds around a frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avssl.config import Config, config_from_dict
from avssl.hub.converters.foreign import (
    Conversion,
    ConvertError,
    Source,
    count_numbered,
    load_combined,
    load_tensors,
    of_tensor,
    origin,
    shape_of,
)
from avssl.training.build import build_model
from avssl.transforms.fbank import HOP_SECONDS, WINDOW_SECONDS
from avssl.transforms.standardize import EPSILON

LICENSE_ID = "bsd-2-clause"
MEAN, STD = -5.081, 4.4849
"""Mean and standard deviation of AudioSet's filter banks, over all bins, that the authors trained with."""
NUM_HEADS, NUM_MELS, SAMPLE_RATE_HZ = 12, 128, 16_000
CLIP_SECONDS, CLIP_COLUMNS = 10.0, 1024
"""Audio of CAV-MAE: 10 s are 998 columns, which are filled with zeros to 1024."""

_NOTICE = """\
Converted from a checkpoint of [{name}](https://github.com/{repository}), {paper}, whose authors license their
repository under the BSD 2-Clause License. Keep its copyright notice and disclaimer with copies of this folder.

The authors started training from ImageNet weights of MAE (https://github.com/facebookresearch/mae), which have terms
of their own: read them before commercial use."""
_PAPERS = {
    "cav-mae": ("CAV-MAE", "YuanGongND/cav-mae", "Gong et al., ICLR 2023, https://arxiv.org/abs/2210.07839"),
    "cav-mae-sync": (
        "CAV-MAE Sync",
        "edsonroteia/cav-mae-sync",
        "Araujo et al., CVPR 2025, https://arxiv.org/abs/2505.01237",
    ),
}

_LAYERS = {
    "self_attn.in_proj_": "attn.qkv.",
    "self_attn.out_proj.": "attn.proj.",
    "linear1.": "mlp.fc1.",
    "linear2.": "mlp.fc2.",
}
_NORMS = ("norm1", "norm2")
_PARTS = ("weight", "bias")


@dataclass(frozen=True)
class _Shape:
    """Architecture of a checkpoint, as its keys and shapes tell it."""

    prefix: str
    width: int
    patch: int
    grid: int
    """Patches along each side of a frame."""
    num_columns: int
    """Patches along time."""
    num_blocks: int
    """Blocks of each modality, before the shared one."""
    num_decoder_blocks: int
    has_class: bool
    num_registers: int
    num_last_blocks: int
    """Blocks of each modality behind the shared one, in variants of Sync."""


def read_cav_mae(path: Path) -> Conversion:
    """Read a pretrained checkpoint of CAV-MAE, with its decoder."""
    return _read(path, "cav-mae")


def read_cav_mae_sync(path: Path) -> Conversion:
    """Read a pretrained checkpoint of CAV-MAE Sync, with its decoder."""
    return _read(path, "cav-mae-sync")


def _read(path: Path, layout: str) -> Conversion:
    tensors, source = load_tensors(path), f"{path} as {layout}"
    shape = _shape(tensors, source, is_sync=layout == "cav-mae-sync")
    config = _config(shape, is_sync=layout == "cav-mae-sync")
    model = build_model(config).eval()
    left_out = _left_out(shape)
    load_combined(model, tensors, _sources(shape), source, [name for names in left_out.values() for name in names])
    name, repository, paper = _PAPERS[layout]
    about = origin(path, f"a {name}")
    about |= {f"left out, {reason}": f"{len(names)} tensors" for reason, names in left_out.items()}
    statistics = (torch.full((NUM_MELS,), MEAN), torch.full((NUM_MELS,), STD - EPSILON))
    notice = _NOTICE.format(name=name, repository=repository, paper=paper)
    return Conversion(model, config, about, LICENSE_ID, notice, statistics)


def _shape(tensors: Mapping[str, Any], source: str, *, is_sync: bool) -> _Shape:
    prefix = "module." if any(str(name).startswith("module.") for name in tensors) else ""
    width, _, patch, _ = shape_of(tensors, f"{prefix}patch_embed_v.proj.weight", 4, source)
    frame_patches = shape_of(tensors, f"{prefix}pos_embed_v", 3, source)[1]
    audio_patches = shape_of(tensors, f"{prefix}pos_embed_a", 3, source)[1]
    grid, num_rows = math.isqrt(frame_patches), NUM_MELS // max(1, patch)
    if grid**2 != frame_patches or not num_rows or audio_patches % num_rows or width % NUM_HEADS:
        raise ConvertError(
            f"{source}: {width} channels in patches of {patch}, {frame_patches} of a frame and {audio_patches} of the "
            f"audio are no such model: frames are square, audio has {NUM_MELS} bins, and there are {NUM_HEADS} heads."
        )
    shape_of(tensors, f"{prefix}blocks_a.0.norm1.weight", 1, source)  # there is at least one block
    registers = f"{prefix}register_tokens"
    return _Shape(
        prefix,
        width,
        patch,
        grid,
        audio_patches // num_rows,
        num_blocks=count_numbered(tensors, f"{prefix}blocks_a.", ".norm1.weight"),
        num_decoder_blocks=count_numbered(tensors, f"{prefix}decoder_blocks.", ".norm1.weight"),
        has_class=is_sync and f"{prefix}cls_token_a" in tensors,
        num_registers=shape_of(tensors, registers, 2, source)[0] // 2 if is_sync and registers in tensors else 0,
        num_last_blocks=count_numbered(tensors, f"{prefix}constrative_head_audio.", ".norm1.weight") if is_sync else 0,
    )


def _config(shape: _Shape, *, is_sync: bool) -> Config:
    """Return the settings of such a model that its use depends on."""
    size, columns = shape.grid * shape.patch, shape.num_columns * shape.patch
    seconds = CLIP_SECONDS * columns / CLIP_COLUMNS
    if is_sync and columns < CLIP_COLUMNS:
        seconds = (columns - 1) * HOP_SECONDS + WINDOW_SECONDS  # a segment of the clip's columns, all of them filled
    blocks = {
        "width": shape.width,
        "num_blocks": shape.num_blocks + 1 + shape.num_last_blocks,
        "num_heads": NUM_HEADS,
        "patch": shape.patch,
        "class_token": shape.has_class,
        "num_registers": shape.num_registers,
        "register_blocks": shape.num_blocks,
        "norm_eps": 1e-5,
        "pool": "class" if shape.has_class else "mean",
    }
    return config_from_dict(
        {
            "sampling": {
                "num_frames": 1,
                "frames_per_second": 25.0,
                "audio_seconds": round(seconds, 4),
                "sample_rate_hz": SAMPLE_RATE_HZ,
                "short_side": size,
            },
            "transform": {
                "video": {"preset": "none", "size": size, "eval_resize_short": size},
                "spectrogram": {"name": "kaldi_fbank", "num_mels": NUM_MELS, "num_columns": columns},
                "audio": {"preset": "none"},
            },
            "model": {
                "video": {"name": "vit_frames", "grid": shape.grid, **blocks},
                "audio": {
                    "name": "vit_spectrogram",
                    "num_columns": shape.num_columns,
                    "num_rows": NUM_MELS // shape.patch,
                    **blocks,
                },
                "head": {"name": "mlp", "depth": 0, "out_features": shape.width},
            },
            "objective": {"name": "info_nce", "temperature": 0.05, "pooling": "pooled"},
        }
    )


def _sources(shape: _Shape) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    audio_grid = (NUM_MELS // shape.patch, shape.num_columns)
    sides = (("video", "v", (shape.grid, shape.grid)), ("audio", "a", audio_grid))
    for place, (modality, letter, grid) in enumerate(sides):
        ours, theirs = f"{modality}_encoder.", shape.prefix
        sources[f"{ours}patches.position"] = Source(
            (f"{theirs}pos_embed_{letter}", f"{theirs}modality_{letter}"), _positions(grid)
        )
        if shape.has_class:
            sources[f"{ours}patches.class_token"] = of_tensor(f"{theirs}cls_token_{letter}")
        if shape.num_registers:
            sources[f"{ours}patches.registers"] = of_tensor(
                f"{theirs}register_tokens", _half(1 - place, shape.num_registers)
            )
        for part in _PARTS:
            sources[f"{ours}patches.projection.{part}"] = of_tensor(f"{theirs}patch_embed_{letter}.proj.{part}")
            sources[f"{ours}output.{part}"] = of_tensor(f"{theirs}norm_{letter}.{part}")
        blocks = [(f"{theirs}blocks_{letter}.{number}", "") for number in range(shape.num_blocks)]
        blocks.append((f"{theirs}blocks_u.0", f"_{letter}"))
        last = {"v": "visual", "a": "audio"}[letter]
        blocks += [(f"{theirs}constrative_head_{last}.{number}", "") for number in range(shape.num_last_blocks)]
        for number, (block, own_norm) in enumerate(blocks, start=1):
            for part in _PARTS:
                for layer, name in _LAYERS.items():
                    sources[f"{ours}block{number}.{layer}{part}"] = of_tensor(f"{block}.{name}{part}")
                for norm in _NORMS:
                    sources[f"{ours}block{number}.{norm}.{part}"] = of_tensor(f"{block}.{norm}{own_norm}.{part}")
    return sources


def _positions(grid: tuple[int, int]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function that makes (1, C, rows, columns) of (1, P, C) positions and the (1, 1, C) modality."""

    def combine(position: Tensor, modality: Tensor) -> Tensor:
        return (position + modality).transpose(1, 2).unflatten(2, grid)

    return combine


def _half(place: int, count: int) -> Callable[[Tensor], Tensor]:
    """Return a function that makes the (1, R, C) registers of a modality of the (2 R, C) of both, audio first."""

    def choose(registers: Tensor) -> Tensor:
        return registers[place * count : (place + 1) * count][None]

    return choose


def _left_out(shape: _Shape) -> dict[str, list[str]]:
    """Return the tensors that the towers do not need, by the reason."""
    p = shape.prefix
    own = [f"{p}blocks_{letter}.{number}" for letter in "av" for number in range(shape.num_blocks)]
    own += [
        f"{p}constrative_head_{side}.{number}"
        for side in ("audio", "visual")
        for number in range(shape.num_last_blocks)
    ]
    other_norms = [f"{norm}{suffix}" for norm in _NORMS for suffix in ("_a", "_v")]
    single = ["mask_token", *(f"decoder_{name}_{letter}" for name in ("modality", "pos_embed") for letter in "av")]
    layers = ["decoder_embed", "decoder_norm", "decoder_pred_a", "decoder_pred_v"]
    for number in range(shape.num_decoder_blocks):
        block = f"decoder_blocks.{number}"
        layers += [f"{block}.{layer.rstrip('.')}" for layer in _LAYERS.values()]
        layers += [f"{block}.{norm}" for norm in (*_NORMS, *other_norms)]
    joint = ["norm", *(f"blocks_u.0.{norm}" for norm in _NORMS)]
    return {
        "decoder of masked patches": [p + name for name in single] + _with_parts(p + layer for layer in layers),
        "normalization of both modalities at once, for the decoder": _with_parts(p + name for name in joint),
        "normalizations that the authors' program never uses": _with_parts(
            f"{block}.{norm}" for block in own for norm in other_norms
        ),
    }


def _with_parts(names: Iterable[str]) -> list[str]:
    return [f"{name}.{part}" for name in names for part in _PARTS]
