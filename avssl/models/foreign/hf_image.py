"""Image networks of transformers on each frame: CLIP, SigLIP, DINOv2 (with registers) and DINOv3 (ViT and ConvNeXt).

Sources: https://arxiv.org/abs/2103.00020 (CLIP), https://arxiv.org/abs/2303.15343 (SigLIP),
https://arxiv.org/abs/2304.07193 (DINOv2), https://arxiv.org/abs/2309.16588 (registers) and
https://arxiv.org/abs/2508.10104 (DINOv3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.models.foreign.backbone import Tokens, by_clip, images_of
from avssl.models.foreign.contract import VideoContract
from avssl.models.foreign.hf import HFBackbone
from avssl.models.foreign.spec import Spec

_BICUBIC = 3
"""Number of the filter in Pillow."""


def frame_contract(processor: Mapping[str, Any], spec: Spec, **options: Any) -> VideoContract:
    """Return the contract of a processor of images or videos.

    Args:
        processor: Its settings.
        spec: Description; ``image_size`` or ``crop_size`` in its ``config`` is the size, unless ``preprocessing`` has
            one.
        **options: Other fields of the contract.
    """
    crop, resize = _side(processor.get("crop_size")), processor.get("size") or {}
    is_cut = bool(processor.get("do_center_crop")) and crop > 0
    size = crop if is_cut else _side(resize)
    asked = spec.config.get("image_size", spec.config.get("crop_size"))
    if asked is not None and not {"size", "crop_size"} & set(spec.preprocessing):
        resize = {"shortest_edge": round(_side(resize) * _side(asked) / size)} if size else {}
        size = _side(asked)
    resample = processor.get("resample")
    return VideoContract(
        size,
        tuple(map(float, processor.get("image_mean") or (0.5, 0.5, 0.5))),  # type: ignore[arg-type]
        tuple(map(float, processor.get("image_std") or (0.5, 0.5, 0.5))),  # type: ignore[arg-type]
        resize_short=_side(resize) if is_cut else None,
        interpolation="bicubic" if int(2 if resample is None else resample) == _BICUBIC else "bilinear",
        **options,
    )


def _side(size: Any) -> int:
    """Return the pixels of a size: a number, or a mapping with shortest_edge, or height and width."""
    if isinstance(size, Mapping):
        size = size.get("shortest_edge") or size.get("height") or 0
    return int(size[0] if isinstance(size, list | tuple) else size or 0)


class HFImage(HFBackbone):
    """Tokens of each frame: class and register tokens, then cells."""

    modality: Modality = "video"
    takes_any_size: ClassVar[dict[str, Any]] = {}
    """Arguments of forward for other sizes than that of the configuration."""

    @classmethod
    def contract_of(cls, spec: Spec) -> VideoContract:
        patch = cls.configuration(spec).patch_size
        return frame_contract(cls.processor(spec), spec, size_multiple=int(patch))

    def num_extra(self) -> int:
        """Return the number of class and register tokens before the cells."""
        return 1

    def last(self, output: Any) -> Tensor:
        """Return the tokens of the network's output."""
        tokens: Tensor = output.last_hidden_state
        return tokens

    def tokens(self, x: Tensor) -> Tokens:
        own = self.network.config.image_size  # type: ignore[union-attr]
        options = {} if tuple(x.shape[-2:]) == (own, own) else self.takes_any_size
        tokens = self.last(self.network(pixel_values=images_of(x), **options))
        count = self.num_extra()
        extra = by_clip(tokens[:, :count], x) if count else None
        return Tokens(self.cells_of(tokens, x), extra)

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        network: Any = self.network
        patch = int(network.config.patch_size)
        grid = x.shape[-2] // patch, x.shape[-1] // patch
        cells = by_clip(output[:, self.num_extra() :].unflatten(1, grid), x)  # (B, T, H', W', C)
        return cells.permute(0, 4, 1, 2, 3)


class Clip(HFImage):
    """CLIP's image tower; its last normalization is applied to every token."""

    config_class, model_class, processor_class = "CLIPVisionConfig", "CLIPVisionModel", "CLIPImageProcessor"
    sub_config = "vision_config"
    takes_any_size: ClassVar[dict[str, Any]] = {"interpolate_pos_encoding": True}

    def last(self, output: Any) -> Tensor:
        network: Any = getattr(self.network, "vision_model", self.network)
        tokens: Tensor = network.post_layernorm(output.last_hidden_state)
        return tokens

    @classmethod
    def layers(cls, network: Any) -> dict[str, nn.Module]:
        return super().layers(getattr(network, "vision_model", network))


class Siglip(HFImage):
    """SigLIP's image tower, which has no class token."""

    config_class, model_class, processor_class = "SiglipVisionConfig", "SiglipVisionModel", "SiglipImageProcessor"
    sub_config = "vision_config"
    takes_any_size: ClassVar[dict[str, Any]] = {"interpolate_pos_encoding": True}

    def num_extra(self) -> int:
        return 0

    @classmethod
    def layers(cls, network: Any) -> dict[str, nn.Module]:
        return super().layers(getattr(network, "vision_model", network))

    def _trimmed(self, network: Any) -> Any:
        inner = getattr(network, "vision_model", network)
        inner.use_head, inner.head = False, None
        return super()._trimmed(network)


class DinoV2(HFImage):
    """DINOv2."""

    config_class, model_class, processor_class = "Dinov2Config", "Dinov2Model", "BitImageProcessor"

    @classmethod
    def processor(cls, spec: Spec) -> dict[str, Any]:
        own = {
            "size": {"shortest_edge": 256},
            "crop_size": {"height": 224, "width": 224},
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        }
        return super().processor(Spec(spec.backbone)) | own | dict(spec.preprocessing)


class DinoV2WithRegisters(DinoV2):
    """DINOv2 with register tokens."""

    config_class, model_class = "Dinov2WithRegistersConfig", "Dinov2WithRegistersModel"

    def num_extra(self) -> int:
        network: Any = self.network
        return 1 + int(network.config.num_register_tokens)


class DinoV3(HFImage):
    """DINOv3's vision transformers."""

    config_class, model_class, processor_class = "DINOv3ViTConfig", "DINOv3ViTModel", "DINOv3ViTImageProcessor"

    def num_extra(self) -> int:
        network: Any = self.network
        return 1 + int(network.config.num_register_tokens)

    @classmethod
    def layers(cls, network: Any) -> dict[str, nn.Module]:
        blocks = getattr(network, "model", network).layer
        return {f"block.{number}": block for number, block in enumerate(blocks)}


class DinoV3ConvNext(HFImage):
    """DINOv3's ConvNeXts, whose class token is the mean of the cells."""

    config_class, model_class, processor_class = (
        "DINOv3ConvNextConfig",
        "DINOv3ConvNextModel",
        "DINOv3ViTImageProcessor",
    )

    @classmethod
    def width(cls, config: Any) -> int:
        return int(config.hidden_sizes[-1])

    @classmethod
    def layers(cls, network: Any) -> dict[str, nn.Module]:
        return {f"stage.{number}": stage for number, stage in enumerate(network.model.stages)}

    @classmethod
    def contract_of(cls, spec: Spec) -> VideoContract:
        stride = 2 ** (1 + len(cls.configuration(spec).hidden_sizes))
        return frame_contract(cls.processor(spec), spec, size_multiple=stride)

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        if output.ndim == 3:  # behind the last normalization
            network: Any = self.network
            stride = 2 ** (1 + len(network.config.hidden_sizes))
            output = output[:, 1:].transpose(1, 2).unflatten(2, (x.shape[-2] // stride, x.shape[-1] // stride))
        return by_clip(output, x).transpose(1, 2)  # (B, C, T', H', W')
