"""Video networks of torchvision (S3D, MViT v1 and v2, Swin3D) and its RegNets on each frame.

Sources: https://arxiv.org/abs/1712.04851 (S3D), https://arxiv.org/abs/2104.11227 and https://arxiv.org/abs/2112.01526
(MViT), https://arxiv.org/abs/2106.13230 (Video Swin) and https://arxiv.org/abs/2003.13678 (RegNet).
"""

from __future__ import annotations

import difflib
import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.models.foreign.backbone import Backbone, Tokens, by_clip, images_of
from avssl.models.foreign.contract import VideoContract
from avssl.models.foreign.libraries import library
from avssl.models.foreign.spec import Spec, merged
from avssl.models.foreign.tower import ForeignEncoder
from avssl.models.foreign.weights import WeightFolder, WeightsError, differences, read_tensors

VIDEO_NAMES = ("s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b")
_LORA_TARGETS = ("qkv", "proj", "project.0")
_MEAN, _STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)  # torchvision's, of Kinetics
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HEADS = ("head.", "fc.", "classifier.")


class TorchvisionEncoder(ForeignEncoder):
    """Video network, or RegNet on every frame, of torchvision: video (B, 3, T, H, W) to (B, C, T', H', W')."""

    library: ClassVar[str] = "torchvision"
    default: ClassVar[str] = "swin3d_t"

    @classmethod
    def build(cls, spec: Spec) -> Backbone:
        _check_name(spec.backbone)
        start = spec.backbone.partition("_")[0]
        return {"s3d": S3D, "mvit": MViT, "swin3d": Swin3D, "regnet": RegNet}[start](spec)

    @classmethod
    def contract_of(cls, spec: Spec) -> VideoContract:
        return _contract(spec)

    @classmethod
    def spec_of(cls, spec: Spec, folder: WeightFolder) -> Spec:
        content = folder.read("config.json")
        name = spec.backbone or str(content.get("architecture", ""))
        keys = ("size", "resize_short", "mean", "std")
        given: dict[str, Any] = {key: content[key] for key in keys if key in content}
        return Spec(name, spec.config, merged({**given, "license": folder.license_id}, spec.preprocessing))


class _Torchvision(Backbone):
    modality: Modality = "video"

    def __init__(self, spec: Spec) -> None:
        network = _create(spec)
        width, blocks = self.parts(network)
        super().__init__(network, spec, width, _contract(spec), blocks, _LORA_TARGETS)

    def parts(self, network: Any) -> tuple[int, dict[str, nn.Module]]:
        """Return the channels of the map and the blocks; removes what stands behind them."""
        raise NotImplementedError

    def load(self, folder: WeightFolder) -> nn.Module:
        tensors = {name: value for name, value in read_tensors(folder).items() if not name.startswith(_HEADS)}
        network = type(self)(self.spec).network
        there, here = (
            {name: tuple(value.shape) for name, value in each.items()} for each in (tensors, network.state_dict())
        )
        if names := [name for name in {**here, **there} if there.get(name) != here.get(name)]:
            raise WeightsError(
                f"{folder.name}: not the weights of {self.spec.backbone}: {differences(there, here, names)}."
            )
        network.load_state_dict(tensors)
        return network

    def recompute_activations(self) -> None:
        raise InputError("recompute: torchvision's networks keep their activations; use train.embed_chunk_size.")


class S3D(_Torchvision):
    """Separable 3-D convolutions."""

    def parts(self, network: Any) -> tuple[int, dict[str, nn.Module]]:
        network.classifier = network.avgpool = nn.Identity()
        return 1024, {f"stage.{number}": part for number, part in enumerate(network.features)}

    def tokens(self, x: Tensor) -> Tokens:
        network: Any = self.network
        return Tokens(network.features(x))

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        return output


class MViT(_Torchvision):
    """Multiscale vision transformers; a class token before the cells of all frames."""

    def parts(self, network: Any) -> tuple[int, dict[str, nn.Module]]:
        width = int(network.head[-1].in_features)
        network.head = nn.Identity()
        return width, {f"block.{number}": part for number, part in enumerate(network.blocks)}

    def tokens(self, x: Tensor) -> Tokens:
        network: Any = self.network
        codes = network.pos_encoding
        tokens, extent = (
            codes(network.conv_proj(x).flatten(2).transpose(1, 2)),
            (codes.temporal_size, *codes.spatial_size),
        )
        for block in network.blocks:
            tokens, extent = block(tokens, extent)
        tokens = network.norm(tokens)
        return Tokens(self.cells_of(tokens, x), tokens[:, :1])

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        network: Any = self.network
        frames = int(network.pos_encoding.temporal_size)
        side = math.isqrt((output.shape[1] - 1) // frames)
        return output[:, 1:].unflatten(1, (frames, side, side)).permute(0, 4, 1, 2, 3)


class Swin3D(_Torchvision):
    """Video Swin transformers."""

    def parts(self, network: Any) -> tuple[int, dict[str, nn.Module]]:
        network.head = network.avgpool = nn.Identity()
        return int(network.num_features), {f"stage.{number}": part for number, part in enumerate(network.features)}

    def tokens(self, x: Tensor) -> Tokens:
        network: Any = self.network
        return Tokens(self.cells_of(network.norm(network.features(network.pos_drop(network.patch_embed(x)))), x))

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        return output.permute(0, 4, 1, 2, 3)


class RegNet(_Torchvision):
    """RegNets on each frame."""

    def parts(self, network: Any) -> tuple[int, dict[str, nn.Module]]:
        width = int(network.fc.in_features)
        network.fc = network.avgpool = nn.Identity()
        return width, {f"stage.{number}": part for number, part in enumerate(network.trunk_output)}

    def tokens(self, x: Tensor) -> Tokens:
        network: Any = self.network
        return Tokens(self.cells_of(network.trunk_output(network.stem(images_of(x))), x))

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        return by_clip(output, x).transpose(1, 2)


def _names() -> list[str]:
    return [*VIDEO_NAMES, *(name for name in library("torchvision.models").list_models() if name.startswith("regnet"))]


def _check_name(name: str) -> None:
    if name not in _names():
        near = difflib.get_close_matches(name, _names(), n=3, cutoff=0.5)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise InputError(f"backbone ({name!r}) must be one of {', '.join(_names())}.{hint}")


def _create(spec: Spec) -> Any:
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in spec.config.items()}
    try:
        with torch.device("cpu"):  # RegNets compute their widths by tensors, which the meta device cannot read
            network = library("torchvision.models").get_model(spec.backbone, weights=None, **options)
        return network.to(torch.get_default_device())
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"config {dict(spec.config)} does not fit torchvision's {spec.backbone}: {error}.") from error


def _contract(spec: Spec) -> VideoContract:
    """Return the input by the transform of torchvision's own weights, which are not downloaded."""
    _check_name(spec.backbone)
    weights = library("torchvision.models").get_model_weights(spec.backbone).DEFAULT
    given, is_image = weights.transforms.keywords, spec.backbone.startswith("regnet")
    mean, std = (_IMAGENET_MEAN, _IMAGENET_STD) if is_image else (_MEAN, _STD)
    own = {"mean": given.get("mean", mean), "std": given.get("std", std), **spec.preprocessing}
    crop, resize = ([v] if isinstance(v, int) else list(v) for v in (given["crop_size"], given["resize_size"]))
    is_fixed = spec.backbone.startswith("mvit")
    return VideoContract(
        int(own.get("size", crop[0])),
        tuple(map(float, own["mean"])),  # type: ignore[arg-type]
        tuple(map(float, own["std"])),  # type: ignore[arg-type]
        int(own.get("resize_short", resize[0])),
        given.get("interpolation", library("torchvision.transforms").InterpolationMode.BILINEAR).value,
        keep_aspect=len(resize) == 1,  # a pair squeezes the frame
        antialias=is_image,
        size_multiple=0 if is_fixed else 16,
        num_frames=None if is_image else 16,
        frame_multiple=1 if is_image else 2,
        is_fixed_length=is_fixed,
    )
