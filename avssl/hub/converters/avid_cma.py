"""The checkpoint layout of AVID-CMA's authors.

The top level holds ``epoch``, ``model``, ``optimizer`` and ``train_criterion``. The keys of ``model`` begin with
``module.``, then ``video_model``, ``audio_model``, ``video_proj`` or ``audio_proj``. The rest follows our keys: the
same stages, blocks and layers have other names. The optimizer and the criterion (memories, normalizer, positives) are
dropped, as their rows belong to one copy of one data set.

The networks are those of ``avssl.models.avid_video`` and ``avid_audio``. Those of the paper's ablations differ in
strides, pooling and input only, which keys and shapes do not show, so they have their own reader.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from avssl.config import Config, config_from_dict
from avssl.hub.converters.foreign import Conversion, ConvertError, load_renamed, load_tensors, origin
from avssl.training.build import build_model

LICENSE_ID = "cc-by-nc-4.0"
NOTICE = """\
Converted from a checkpoint of [AVID-CMA](https://github.com/facebookresearch/AVID-CMA), whose authors (Morgado,
Vasconcelos and Misra, CVPR 2021, https://arxiv.org/abs/2004.12943) license it under
[CC BY-NC 4.0](https://creativecommons.org/licenses/by-nc/4.0/): credit them, no commercial use.

**Never redistribute this folder**: it was made for use on this machine, and models trained further from it stay under
the same terms. Others can get the checkpoint from its authors and run `avssl convert`."""

_LEFT_BEHIND = ("optimizer", "train_criterion")
_POSITIVES = "nce_average.positive_set"  # in the criterion of CMA only

_VIDEO_WORDS = {
    "conv": "0",
    "bn": "1",
    "spatial1": "spt_conv1",
    "spatial1_bn": "spt_bn1",
    "temporal1": "tmp_conv1",
    "temporal1_bn": "tmp_bn1",
    "spatial2": "spt_conv2",
    "spatial2_bn": "spt_bn2",
    "temporal2": "tmp_conv2",
    "shortcut": "res_conv",
    "sum_bn": "out_bn",
}
_AUDIO_WORDS = {
    "conv": "0",
    "bn": "1",
    "conv2x": "block1",
    "conv3x": "block2",
    "conv4x": "block3",
    "conv5x": "block4",
}
_PARTS = {
    "video_encoder": ("video_model", _VIDEO_WORDS),
    "audio_encoder": ("audio_model", _AUDIO_WORDS),
    "video_head": ("video_proj.projection", {}),
    "audio_head": ("audio_proj.projection", {}),
}
# At depth 10 a stage is a single block without a number.
_PARTS_10 = _PARTS | {"video_encoder": ("video_model", {**_VIDEO_WORDS, "0": ""})}


def read_avid_cma(path: Path) -> Conversion:
    """Read a checkpoint of the full networks: 224 x 224 pixels, 257 bins; its keys tell depth and head."""
    found = _read(path, (18, 10, 34), is_ablation=False)
    if found.config.model.video.name == "avid_r2plus1d_10":
        warnings.warn(
            f"{path}: depth 10 is read as the full network. Those of the paper's ablations, on 112 x 112 pixels, "
            "have the same keys but no max-pool in the stem: convert them with avid-cma-ablation.",
            stacklevel=2,
        )
    return found


def read_ablation(path: Path) -> Conversion:
    """Read a checkpoint of the paper's ablations: depth 10, no max-pool in the stem, 112 x 112 pixels, 129 bins."""
    return _read(path, (10,), is_ablation=True)


def _read(path: Path, depths: tuple[int, ...], *, is_ablation: bool) -> Conversion:
    content = load_tensors(path)
    tensors = _model_tensors(content, path)
    objective = "cma" if _POSITIVES in _criterion(content) else "avid"
    kinds = itertools.product(depths, ("mlp", "linear"))
    configs = [_config(depth, head, objective, is_ablation=is_ablation) for depth, head in kinds]
    # The nearest configuration, so that the error names the one key that is missing or unknown.
    config = min(configs, key=lambda config: len(set(_their_names(config).values()) ^ set(tensors)))
    model = build_model(config).eval()
    load_renamed(model, tensors, _their_names(config), f"{path} as {config.model.video.name}: model")
    return Conversion(model, config, _about(content, path), LICENSE_ID, NOTICE)


def _model_tensors(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """Return ``model`` after checking that the keys beside it are those of the layout."""
    unknown = sorted(set(content) - {"model", "epoch", *_LEFT_BEHIND}, key=str)
    tensors = content.get("model")
    if not isinstance(tensors, Mapping):
        found = ", ".join(sorted(map(str, content))) or "nothing"
        raise ConvertError(f"{path}: the key model is missing or no state dict; an AVID-CMA file has it, not {found}.")
    if unknown:
        known = ", ".join(("epoch", "model", *_LEFT_BEHIND))
        raise ConvertError(f"{path}: {unknown[0]!r} is not a key of this layout, which has {known}.")
    return tensors


def _criterion(content: Mapping[str, Any]) -> Mapping[str, Any]:
    criterion = content.get("train_criterion")
    return criterion if isinstance(criterion, Mapping) else {}


def _config(depth: int, head: str, objective: str, *, is_ablation: bool) -> Config:
    """Return the settings of such a model that its use depends on."""
    size, window_length, hop_seconds = (112, 512, 0.02) if is_ablation else (224, 1024, 0.01)
    sampling = {"num_frames": 8, "frames_per_second": 16.0, "audio_seconds": 2.0, "sample_rate_hz": 24000}
    return config_from_dict(
        {
            "sampling": {**sampling, "max_offset_seconds": 0.5},
            "transform": {
                "video": {"size": size, "scale": [0.08, 1.0], "hue": 0.2},
                "spectrogram": {
                    "name": "avid",
                    "window_length": window_length,
                    "hop_seconds": hop_seconds,
                    "padding": "reflect",  # the default of librosa at that time
                },
            },
            "model": {
                "video": {"name": f"avid_r2plus1d_{depth}", "stem_pool": not is_ablation},
                "audio": {"name": "avid_audio_cnn_10", "first_block_stride": 1 if is_ablation else 2},
                "head": {"name": head, "out_features": 128},
            },
            "objective": {"name": objective, "loss": "nce_frozen", "z_scores": "first"},
        }
    )


def _their_names(config: Config) -> dict[str, str]:
    """Return the name in their file of each entry of our state dict."""
    parts = _PARTS_10 if config.model.video.name == "avid_r2plus1d_10" else _PARTS
    with torch.device("meta"):
        ours = build_model(config).state_dict()
    names = {}
    for name in ours:
        part, *words = name.split(".")
        prefix, renamed = parts[part]
        names[name] = ".".join(["module", prefix, *filter(None, (renamed.get(word, word) for word in words))])
    return names


def _about(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    about = origin(path, "an AVID-CMA")
    if type(content.get("epoch")) is int:
        about["epoch"] = content["epoch"]
    left = [name for name in _LEFT_BEHIND if name in content]
    return about | ({"left behind": ", ".join(left)} if left else {})
