"""The checkpoint layout of DenseAV.

Source: Hamilton et al., CVPR 2024, https://arxiv.org/abs/2406.05629. A file is a checkpoint of PyTorch Lightning:
``state_dict`` holds the tensors, ``hyper_parameters`` the settings that they do not show. The same models are on the
Hugging Face hub as folders of ``model.safetensors`` and ``config.json``. Low-rank updates of DINO's or
HuBERT's attention are added to the weights that they belong to, and the aligner's class token is kept as the layers in
front of it make it. The loss, optimizer and progress of training are dropped.

The authors score pairs by dot products, avssl by cosines, so the learned scale of the scores is left out too. Their
model of sounds adds the product of the class tokens of frame and audio to the scores of all cells alike
(``sim_use_cls`` in its settings), which does not change where a map is high.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.config import Config, config_from_dict
from avssl.core.data_files import read_json
from avssl.core.user_files import FileError
from avssl.hub.converters.foreign import (
    Conversion,
    ConvertError,
    Source,
    count_numbered,
    joined,
    load_combined,
    load_safetensors,
    load_tensors,
    of_tensor,
    origin,
    shape_of,
)
from avssl.models.dense_av import HUBERT_KERNELS
from avssl.training.build import build_model
from avssl.transforms.standardize import EPSILON

LICENSE_ID = "mit"
NOTICE = """\
Converted from a checkpoint of [DenseAV](https://github.com/mhamilton723/DenseAV) (Hamilton, Zisserman, Hershey and
Freeman, CVPR 2024, https://arxiv.org/abs/2406.05629), which its authors license under the MIT License. It contains
further trained weights of DINO (ViT-S/8) and of HuBERT (large), both under the Apache License 2.0.

Its heads find a sound or a spoken word in the frame. avssl compares directions (cosines); the authors' own maps are
dot products, which also tell how loud the match is."""

LORA_ALPHA = 32
NORM_EPS = 1e-4
"""Epsilon of all normalizations but those of HuBERT's convolutions."""
VIDEO_HEADS, AUDIO_HEADS, ALIGN_HEADS = 6, 16, 6
PATCH = 8
SHORT_SIDE = 304
"""Short side of decoded frames: that of the maps, 4 / 3 of the training size."""
_CLIP = {"num_frames": 10, "frames_per_second": 1.0, "audio_seconds": 10.0, "sample_rate_hz": 16_000}
"""The authors train on one frame and 10 s; here each second of the audio has a frame of its own."""
_AUGMENTATION = {
    "scale": [0.08, 1.0],
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "hue": 0.2,
    "grayscale_probability": 0.1,
}

_SETTINGS = {
    "image_model_type": "dino8",
    "image_model_token_type": "token",
    "image_aligner_type": "image_linear",
    "audio_model_type": "hubert",
    "audio_aligner_type": "audio_sa_3_3_pool_2",
}
"""Settings of the released models that decide which network the tensors belong to."""
_PARTS = ("weight", "bias")
_VIT_LAYERS = {"self_attn.out_proj": "attn.proj", "linear1": "mlp.fc1", "linear2": "mlp.fc2"}
_HUBERT_LAYERS = {
    "self_attn.out_proj": "attention.out_proj",
    "norm1": "layer_norm",
    "linear1": "feed_forward.intermediate_dense",
    "linear2": "feed_forward.output_dense",
    "norm2": "final_layer_norm",
}
_ALIGN = "audio_aligner.mod_list."


@dataclass(frozen=True)
class _Layout:
    """Places of the parts of a checkpoint."""

    tensors: Mapping[str, Any]
    source: str
    image: str
    """Prefix of DINO's keys."""
    audio: str
    """Prefix of HuBERT's keys."""

    def shape(self, name: str, num_dimensions: int) -> tuple[int, ...]:
        return shape_of(self.tensors, name, num_dimensions, self.source)

    def linear(self, name: str) -> dict[str, Source]:
        """Return the sources of weight and bias of a layer, with its low-rank update if there is one."""
        update = tuple(f"{name}.lora_{part}.default.weight" for part in "AB")
        if update[0] not in self.tensors:
            return {part: of_tensor(f"{name}.{part}") for part in _PARTS}
        base = f"{name}.base_layer" if f"{name}.base_layer.weight" in self.tensors else name
        return {"weight": Source((f"{base}.weight", *update), _updated), "bias": of_tensor(f"{base}.bias")}


def read_dense_av(path: Path) -> Conversion:
    """Read a checkpoint of DenseAV, or a folder of the hub: the model of sounds, of language, or of both."""
    content, file = _content(path)
    tensors = content.get("state_dict")
    if not isinstance(tensors, Mapping):
        found = ", ".join(sorted(map(str, content))[:5]) or "nothing"
        raise ConvertError(
            f"{path}: the key state_dict is missing or no state dict; a DenseAV file has it, not {found}."
        )
    num_heads = _num_heads(content, path)
    image, audio = (
        f"{part}.base_model.model.model."
        if any(str(name).startswith(f"{part}.base_model.") for name in tensors)
        else f"{part}.model."
        for part in ("image_model", "audio_model")
    )
    layout = _Layout(tensors, f"{path} as dense-av", image, audio)
    config = _config(layout, num_heads)
    model = build_model(config).eval()
    left_out = _left_out(layout)
    sources = _video_sources(layout, config) | _audio_sources(layout, config)
    load_combined(model, tensors, sources, layout.source, [name for names in left_out.values() for name in names])
    about = origin(file, "a DenseAV")
    about |= {f"left out, {reason}": ", ".join(names) for reason, names in left_out.items() if names}
    if dropped := sorted(str(key) for key in content if key not in ("state_dict", "hyper_parameters")):
        about["left behind"] = ", ".join(dropped)
    statistics = torch.zeros(1), torch.full((1,), 1 - EPSILON)  # the waveform is scaled clip by clip
    return Conversion(model, config, about, LICENSE_ID, NOTICE, statistics)


def _content(path: Path) -> tuple[Mapping[str, Any], Path]:
    """Return the content of a checkpoint, and the file that holds its tensors."""
    if not path.is_dir():
        return load_tensors(path), path
    file = path / "model.safetensors"
    tensors = load_safetensors(file)
    try:
        settings = read_json(path / "config.json")
    except (FileError, OSError) as error:
        raise ConvertError(str(error)) from error
    return {"state_dict": tensors, "hyper_parameters": settings}, file


def _num_heads(content: Mapping[str, Any], path: Path) -> int:
    """Return K after checking that the settings are those of this network."""
    settings = content.get("hyper_parameters")
    if not isinstance(settings, Mapping):
        raise ConvertError(f"{path}: the settings (hyper_parameters) are missing, which tell the number of heads.")
    for name, expected in _SETTINGS.items():
        if settings.get(name, expected) != expected:
            raise ConvertError(
                f"{path}: hyper_parameters.{name} is {settings[name]!r}; only models with {expected!r}, as its authors "
                "released, can be converted."
            )
    num_heads = settings.get("sim_agg_heads")
    if type(num_heads) is not int or num_heads < 1:
        raise ConvertError(f"{path}: hyper_parameters.sim_agg_heads ({num_heads!r}) must be the number of heads.")
    return num_heads


def _config(layout: _Layout, num_heads: int) -> Config:
    """Return the settings of such a model that its use depends on."""
    tensors, image, audio = layout.tensors, layout.image, layout.audio
    width, _, patch, _ = layout.shape(f"{image}patch_embed.proj.weight", 4)
    num_positions = layout.shape(f"{image}pos_embed", 3)[1]
    grid = math.isqrt(num_positions - 1)
    conv_width = layout.shape(f"{audio}feature_extractor.conv_layers.0.conv.weight", 3)[0]
    audio_width = layout.shape(f"{audio}feature_projection.projection.weight", 2)[0]
    _, group_width, kernel = layout.shape(_position_names(layout)[1], 3)
    out_features = layout.shape("image_aligner.layer.weight", 4)[0]
    for first in (f"{image}blocks.0.norm1.weight", f"{audio}encoder.layers.0.layer_norm.weight"):
        layout.shape(first, 1)  # there is at least one block
    if patch != PATCH or grid**2 + 1 != num_positions or out_features % num_heads:
        raise ConvertError(
            f"{layout.source}: patches of {patch}, {num_positions} positions, {out_features} features and {num_heads} "
            f"heads are no such model: patches have {PATCH} pixels, frames are square, and heads share the features."
        )
    size = grid * PATCH
    frames = {"size": size, "eval_resize_short": size, **_AUGMENTATION}
    video = {
        "width": width,
        "num_blocks": count_numbered(tensors, f"{image}blocks.", ".norm1.weight"),
        "num_heads": VIDEO_HEADS,
        "grid": grid,
        "out_features": out_features,
        "norm_eps": NORM_EPS,
    }
    sound = {
        "width": audio_width,
        "num_blocks": count_numbered(tensors, f"{audio}encoder.layers.", ".layer_norm.weight"),
        "num_heads": AUDIO_HEADS,
        "conv_width": conv_width,
        "position_kernel": kernel,
        "position_groups": audio_width // max(1, group_width),
        "out_features": out_features,
        "align_heads": ALIGN_HEADS,
        "class_token": "audio_cls" in tensors,
        "norm_eps": NORM_EPS,
    }
    return config_from_dict(
        {
            "sampling": {**_CLIP, "short_side": max(size, SHORT_SIDE)},
            "transform": {"video": frames, "spectrogram": {"name": "waveform"}, "audio": {"preset": "none"}},
            "model": {
                "video": {"name": "dense_av_video", **video},
                "audio": {"name": "dense_av_audio", **sound},
                "head": {"name": "mlp", "depth": 0, "out_features": out_features},
            },
            "objective": {"name": "dense_av", "num_heads": num_heads, "learn_temperature": False},
        }
    )


def _video_sources(layout: _Layout, config: Config) -> dict[str, Source]:
    ours, theirs = "video_encoder.", layout.image
    sources = {
        f"{ours}patches.position": of_tensor(f"{theirs}pos_embed", _patch_positions),
        f"{ours}patches.class_token": Source((f"{theirs}cls_token", f"{theirs}pos_embed"), _first_position),
    }
    sources |= _named(f"{ours}patches.projection", layout.linear(f"{theirs}patch_embed.proj"))
    for number in range(config.model.video.options()["num_blocks"]):
        block, their_block = f"{ours}block{number + 1}", f"{theirs}blocks.{number}"
        attention = layout.linear(f"{their_block}.attn.qkv")
        sources |= {f"{block}.self_attn.in_proj_{part}": attention[part] for part in _PARTS}
        for layer, name in {**_VIT_LAYERS, "norm1": "norm1", "norm2": "norm2"}.items():
            sources |= _named(f"{block}.{layer}", layout.linear(f"{their_block}.{name}"))
    sources |= _named(f"{ours}output.0", layout.linear(f"{theirs}norm"))
    sources |= _named(f"{ours}output.1", layout.linear("image_aligner.norm.norm"))
    sources[f"{ours}output.2.weight"] = of_tensor("image_aligner.layer.weight", lambda weight: weight[:, :, 0, 0])
    sources[f"{ours}output.2.bias"] = of_tensor("image_aligner.layer.bias")
    return sources


def _audio_sources(layout: _Layout, config: Config) -> dict[str, Source]:
    ours, theirs = "audio_encoder.", layout.audio
    sources: dict[str, Source] = {}
    for number in range(len(HUBERT_KERNELS)):
        name = f"{theirs}feature_extractor.conv_layers.{number}"
        sources[f"{ours}convolutions.{3 * number}.weight"] = of_tensor(f"{name}.conv.weight", _over_time)
        sources[f"{ours}convolutions.{3 * number}.bias"] = of_tensor(f"{name}.conv.bias")
        sources |= _named(f"{ours}convolutions.{3 * number + 1}", layout.linear(f"{name}.layer_norm"))
    projection = f"{theirs}feature_projection"
    sources |= _named(f"{ours}tokens.0", layout.linear(f"{projection}.layer_norm"))
    sources[f"{ours}tokens.1.weight"] = of_tensor(f"{projection}.projection.weight", lambda w: w[:, :, None, None])
    sources[f"{ours}tokens.1.bias"] = of_tensor(f"{projection}.projection.bias")
    sources[f"{ours}tokens.2.conv.weight"] = Source(_position_names(layout), _weight_norm)
    sources[f"{ours}tokens.2.conv.bias"] = of_tensor(f"{theirs}encoder.pos_conv_embed.conv.bias")
    for number in range(config.model.audio.options()["num_blocks"]):
        block, their_block = f"{ours}block{number + 1}.block", f"{theirs}encoder.layers.{number}"
        three = [layout.linear(f"{their_block}.attention.{letter}_proj") for letter in "qkv"]
        sources |= {f"{block}.self_attn.in_proj_{part}": joined(*(one[part] for one in three)) for part in _PARTS}
        for layer, name in _HUBERT_LAYERS.items():
            sources |= _named(f"{block}.{layer}", layout.linear(f"{their_block}.{name}"))
    sources |= _named(f"{ours}output.0", layout.linear(f"{theirs}encoder.layer_norm"))
    return sources | _aligner_sources(layout, f"{ours}output.")


def _aligner_sources(layout: _Layout, ours: str) -> dict[str, Source]:
    """Return the sources of the audio's aligner: a normalization, two convolutions, and attention."""
    sources = _named(f"{ours}1", layout.linear(f"{_ALIGN}1.norm"))
    for number in (2, 3):
        sources[f"{ours}{number}.weight"] = of_tensor(
            f"{_ALIGN}{number}.layer.weight", lambda weight: weight.transpose(2, 3)
        )
        sources[f"{ours}{number}.bias"] = of_tensor(f"{_ALIGN}{number}.layer.bias")
    block, their_block = f"{ours}4.block", f"{_ALIGN}4.block"
    attention = layout.linear(f"{their_block}.attn.qkv")
    sources |= {f"{block}.self_attn.in_proj_{part}": attention[part] for part in _PARTS}
    for layer, name in {**_VIT_LAYERS, "norm1": "norm1", "norm2": "norm2"}.items():
        sources |= _named(f"{block}.{layer}", layout.linear(f"{their_block}.{name}"))
    if "audio_cls" in layout.tensors:
        names = [f"{_ALIGN}{layer}.{part}" for layer in ("1.norm", "2.cls_layer") for part in _PARTS]
        sources[f"{ours}4.class_token"] = Source(("audio_cls", *names), _class_token)
    return sources


def _left_out(layout: _Layout) -> dict[str, list[str]]:
    """Return the tensors that the towers do not need, by the reason."""
    masked = f"{layout.audio}masked_spec_embed"
    no_class = [] if "audio_cls" in layout.tensors else _named(f"{_ALIGN}2.cls_layer", dict.fromkeys(_PARTS))
    return {
        "masking in the training of HuBERT": [name for name in (masked,) if name in layout.tensors],
        "class token of a frame, the same for all of its cells": [
            *(f"image_aligner.cls_layer.{part}" for part in _PARTS),
            *no_class,
        ],
        "scale of the authors' dot products": [
            name for name in ("sim_cal.w", "sim_cal.b") if name == "sim_cal.w" or name in layout.tensors
        ],
    }


def _position_names(layout: _Layout) -> tuple[str, str]:
    """Return the names of length and direction of the weight of HuBERT's positions, in old or new PyTorch."""
    conv = f"{layout.audio}encoder.pos_conv_embed.conv."
    if f"{conv}weight_v" in layout.tensors:
        return f"{conv}weight_g", f"{conv}weight_v"
    return f"{conv}parametrizations.weight.original0", f"{conv}parametrizations.weight.original1"


def _named(ours: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{ours}.{part}": source for part, source in parts.items()}


def _updated(weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Return a weight with its low-rank update (https://arxiv.org/abs/2106.09685, section 4.1)."""
    return weight + up @ down * (LORA_ALPHA / len(down))


def _weight_norm(length: Tensor, direction: Tensor) -> Tensor:
    """Return (C, C / groups, kernel, 1) of its length for each place of the kernel and its direction."""
    return _over_time(direction * (length / direction.norm(dim=(0, 1), keepdim=True)))


def _over_time(weight: Tensor) -> Tensor:
    return weight[..., None]


def _patch_positions(position: Tensor) -> Tensor:
    side = math.isqrt(position.shape[1] - 1)
    return position[:, 1:].transpose(1, 2).unflatten(2, (side, side))


def _first_position(token: Tensor, position: Tensor) -> Tensor:
    return token + position[:, :1]


def _class_token(token: Tensor, norm: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the (1, 1, D) token that the aligner's attention sees, which is the same for every clip."""
    normed = F.layer_norm(token, token.shape, norm, norm_bias, NORM_EPS)
    return F.linear(normed, weight, bias)[None, None]
