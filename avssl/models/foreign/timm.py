"""Image networks of timm on each frame: ViT, EVA, ConvNeXt, RegNet and all others whose features are a map.

Source: Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

import difflib
import inspect
import math
from contextlib import nullcontext
from functools import cache
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.models.foreign.backbone import Backbone, Tokens, by_clip, images_of
from avssl.models.foreign.contract import VideoContract
from avssl.models.foreign.libraries import library
from avssl.models.foreign.spec import Spec, merged
from avssl.models.foreign.timm_vit import check_vit, patch_tokens, patch_values, through_blocks
from avssl.models.foreign.tower import ForeignEncoder
from avssl.models.foreign.weights import WeightFolder, WeightsError, differences, read_tensors
from avssl.models.tokens import PatchTokens

_ANY_SIZE = ("timm.models.vision_transformer", "timm.models.eva")
"""Modules of networks whose position codes are resampled to the size of the frames."""
_LORA_TARGETS = ("qkv", "q_proj", "k_proj", "v_proj", "proj")
_CONV_HEADS = ("conv_head", "norm_head", "bn2", "act2")
_HEADS = ("head", "fc", "fc_norm", "attn_pool", "classifier", *_CONV_HEADS)
"""Layers of networks behind their map; those of EfficientNets, but not of MobileNets, stand before it."""
_INPUT = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode", "fixed_input_size", "license")
"""Settings of the input in the ``pretrained_cfg`` of timm."""


class TimmEncoder(ForeignEncoder):
    """Image network of timm on every frame: video (B, 3, T, H, W) to (B, C, T, H', W')."""

    library: ClassVar[str] = "timm"
    default: ClassVar[str] = "vit_small_patch16_224"

    @classmethod
    def build(cls, spec: Spec) -> Backbone:
        return TimmBackbone(spec)

    @classmethod
    def contract_of(cls, spec: Spec) -> VideoContract:
        return _contract(spec)

    @classmethod
    def spec_of(cls, spec: Spec, folder: WeightFolder) -> Spec:
        content = folder.read("config.json")
        own = content.get("pretrained_cfg", content)
        name = str(content.get("architecture", "")) or spec.backbone
        if not name:
            raise WeightsError(f"{folder.name}: its config.json names no architecture; is it of another library?")
        if spec.backbone and spec.backbone.partition(".")[0] != name.partition(".")[0]:
            raise WeightsError(f"{folder.name}: holds weights of {name}, not of {spec.backbone}.")
        found = {key: own[key] for key in _INPUT if own.get(key) is not None}
        found["license"] = own.get("license") or folder.license_id
        arguments = content.get("model_args") or {}
        return Spec(name.partition(".")[0], merged(arguments, spec.config), merged(found, spec.preprocessing))

    @property
    def patch_values(self) -> int:
        """Numbers of a patch."""
        check_vit(self.backbone.network, self.backbone.spec.backbone)
        return patch_values(self.backbone.network)

    def patch_tokens(self, x: Tensor) -> PatchTokens:
        """Return the tokens of the frames of (B, 3, T, H, W), one after the other, in front of the blocks."""
        self.check_input(x)
        network = self.backbone.network
        check_vit(network, self.backbone.spec.backbone)
        if self.temporal is not None:
            raise InputError("temporal_layers need the map of all patches: set it to 0 where patches are skipped.")
        with torch.no_grad() if self._is_frozen else nullcontext():
            return patch_tokens(network, images_of(x))

    def trunk(self, tokens: Tensor) -> Tensor:
        """Return the (N, S, C) output of all blocks and the last normalization for any (N, S, C) tokens."""
        check_vit(self.backbone.network, self.backbone.spec.backbone)
        return through_blocks(self.backbone.network, tokens)


class TimmBackbone(Backbone):
    """A network of timm without its classifier.

    Args:
        spec: ``backbone`` is a name of ``timm.list_models()``, with or without the tag of its weights.

    Raises:
        InputError: If the name or a setting is unknown, or its output is no map.
    """

    modality: Modality = "video"

    def __init__(self, spec: Spec) -> None:
        network = create_network(spec)
        parts = _blocks(network)
        super().__init__(network, spec, network.num_features, _contract(spec), parts, _LORA_TARGETS)
        self._num_extra = getattr(network, "num_prefix_tokens", None)
        patches = getattr(network, "patch_embed", None)
        if self._num_extra is not None and not hasattr(patches, "dynamic_feat_size"):
            raise InputError(f"backbone ({spec.backbone!r}): its features are no map of cells.")
        self._is_channels_last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")

    def tokens(self, x: Tensor) -> Tokens:
        output = self.network.forward_features(images_of(x))  # type: ignore[operator]
        extra = None if not self._num_extra else by_clip(output[:, : self._num_extra], x)
        return Tokens(self.cells_of(output, x), extra)

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        network: Any = self.network
        if output.ndim == 4:
            cells = output.permute(0, 3, 1, 2) if self._is_channels_last else output
        elif self._num_extra is None:
            raise InputError(f"backbone ({self.spec.backbone!r}): its features are no map of cells.")
        else:
            height, width = network.patch_embed.dynamic_feat_size(tuple(x.shape[-2:]))
            cells = output[:, self._num_extra :].unflatten(1, (height, width)).permute(0, 3, 1, 2)
        return by_clip(cells, x).transpose(1, 2)  # (B, C, T, H', W')

    def load(self, folder: WeightFolder) -> nn.Module:
        return load_network(self.spec, folder)

    def recompute_activations(self) -> None:
        self.network.set_grad_checkpointing(True)  # type: ignore[operator]


@cache
def _known() -> list[str]:
    found: list[str] = library("timm").list_models()
    return found


def _check_name(name: str) -> None:
    """Raise InputError with the nearest names if timm has no network of this name."""
    base = name.partition(".")[0]
    if not library("timm").is_model(base):
        near = difflib.get_close_matches(base, _known(), n=3, cutoff=0.5)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise InputError(f"backbone ({name!r}) is not a network of timm.{hint} timm.list_models() has all names.")
    tags = library("timm").list_models(f"{base}.*", pretrained=True)
    if name != base and name not in tags:
        hint = f" Its tags are {', '.join(tags)}." if tags else " It has no tags."
        raise InputError(f"backbone ({name!r}) has a tag that timm does not know.{hint}")


def _options(spec: Spec) -> dict[str, Any]:
    """Return keyword arguments of timm's constructor."""
    takes_any = library("timm.models").model_entrypoint(spec.backbone.partition(".")[0]).__module__ in _ANY_SIZE
    return ({"dynamic_img_size": True} if takes_any else {}) | dict(spec.config)


def create_network(spec: Spec) -> Any:
    """Return the untrained network of a description without its classifier."""
    _check_name(spec.backbone)
    try:
        return _without_head(library("timm").create_model(spec.backbone, num_classes=0, **_options(spec)))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise InputError(f"config {dict(spec.config)} does not fit timm's {spec.backbone}: {error}.") from error


def load_network(spec: Spec, folder: WeightFolder) -> nn.Module:
    """Return the network of a description with the weights of a folder.

    Raises:
        WeightsError: If the folder has no safetensors, or those of another network.
    """
    tensors = read_tensors(folder)
    content = folder.read("config.json")
    classes = content.get("num_classes", content.get("pretrained_cfg", {}).get("num_classes"))
    # Only with the classifier of the file does timm compare all names; otherwise it leaves missing tensors random.
    own = {} if classes is None else {"num_classes": classes}
    overlay = {"state_dict": dict(tensors), "label_offset": 0, **own}
    try:
        network: nn.Module = library("timm").create_model(
            spec.backbone, pretrained=True, pretrained_cfg_overlay=overlay, **own, **_options(spec)
        )
    except Exception as error:  # timm's readers of foreign names raise many kinds
        there = {name: tuple(value.shape) for name, value in tensors.items()}
        here = {name: tuple(value.shape) for name, value in create_network(spec).state_dict().items()}
        names = [name for name in here if there.get(name) != here[name]]
        names = names or [name for name in there if name not in here and name.partition(".")[0] not in _HEADS]
        text = differences(there, here, names) if names else " ".join(str(error).split())[:300]
        raise WeightsError(f"{folder.name}: not the weights of {spec.backbone}: {text}.") from error
    return cast(nn.Module, _without_head(network))


def _without_head(network: Any) -> Any:
    """Remove the layers behind the map in place."""
    uses_conv_head = "conv_head" in inspect.getsource(type(network).forward_features)
    for name in _HEADS:
        if isinstance(getattr(network, name, None), nn.Module) and not (name in _CONV_HEADS and uses_conv_head):
            setattr(network, name, nn.Identity())
    return network


def _contract(spec: Spec) -> VideoContract:
    """Return the input by timm's own data configuration."""
    _check_name(spec.backbone)
    config: Any = library("timm.models").get_pretrained_cfg(spec.backbone, allow_unregistered=True)
    own = {} if config is None else config.to_dict()
    own |= dict(spec.preprocessing)
    if "size" in own:
        own["input_size"] = (3, own["size"], own["size"])
    data = library("timm.data").resolve_data_config({}, pretrained_cfg=own)
    options = _options(spec)
    size = int(data["input_size"][-1])
    if "img_size" in options:
        given = options["img_size"]
        size = int(given if isinstance(given, int) else given[-1])
    if "patch_size" in options:
        multiple = int(options["patch_size"])
    else:
        multiple = _patch_size(spec.backbone)
    is_fixed = bool(own.get("fixed_input_size")) and not options.get("dynamic_img_size")
    resize, squashes = math.floor(size / data["crop_pct"]), data["crop_mode"] == "squash"
    return VideoContract(
        size,
        tuple(map(float, data["mean"])),  # type: ignore[arg-type]
        tuple(map(float, data["std"])),  # type: ignore[arg-type]
        None if squashes and resize == size else resize,
        "bicubic" if data["interpolation"] == "bicubic" else "bilinear",
        size_multiple=0 if is_fixed else multiple,
        keep_aspect=not squashes or resize == size,
    )


def _patch_size(name: str) -> int:
    """Return the pixels of a patch by the name of the network; 16 for networks without patches."""
    digits = name.partition("_patch")[2].partition("_")[0].partition(".")[0]
    return int(digits) if digits.isdigit() else 16


def _blocks(network: Any) -> dict[str, nn.Module]:
    """Return the blocks of a transformer or the stages of a convolutional network."""
    for attribute, word in (("blocks", "block"), ("stages", "stage"), ("layers", "stage")):
        parts = getattr(network, attribute, None)
        if isinstance(parts, nn.Sequential | nn.ModuleList):
            return {f"{word}.{number}": part for number, part in enumerate(parts)}
    names = [name for name, _ in network.named_children() if name[:-1] in ("s", "layer") and name[-1].isdigit()]
    if not names:
        raise InputError(f"backbone: {type(network).__name__} of timm has no blocks that can be told apart.")
    return {f"stage.{number}": getattr(network, name) for number, name in enumerate(names)}
