"""Image towers of CLIP and SigLIP on each frame, with their projections into the space of their text towers.

Sources: Radford et al., 2021 (CLIP), https://arxiv.org/abs/2103.00020; Zhai et al., 2023 (SigLIP),
https://arxiv.org/abs/2303.15343.

A cell of the map is in the space of texts too: in CLIP's last layer each patch attends to itself alone (Zhou et al.,
2022, MaskCLIP, https://arxiv.org/abs/2112.01071), and SigLIP's attention pooling reads one patch alone.

Dimensions: B clips, T frames, N patches of a frame, C channels; H', W' cells.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.models.foreign.backbone import Backbone, Tokens, by_clip, images_of
from avssl.models.foreign.contract import VideoContract
from avssl.models.foreign.libraries import library
from avssl.models.foreign.processors import image_preprocessing
from avssl.models.foreign.spec import Spec, merged
from avssl.models.foreign.text import load_whole
from avssl.models.foreign.tower import ForeignEncoder
from avssl.models.foreign.weights import WeightFolder, WeightsError, differences

_WHOLE = {"clip": "CLIPModel", "siglip": "SiglipModel"}
_VISION = {"clip": "CLIPVision", "siglip": "SiglipVision"}
_LAYERS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size")
_SETTINGS = (*_LAYERS, "hidden_act", "layer_norm_eps", "projection_dim")
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)
_LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")


class ImageTextEncoder(ForeignEncoder):
    """Image tower of CLIP or SigLIP: video (B, 3, T, H, W) to (B, C, T, H', W') in the space of its text tower."""

    library: ClassVar[str] = "image_text"
    default: ClassVar[str] = "clip"
    has_text: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: Spec) -> Backbone:
        return ImageTextBackbone(spec)

    @classmethod
    def contract_of(cls, spec: Spec) -> VideoContract:
        _check_name(spec.backbone)
        own, is_clip = spec.preprocessing, spec.backbone == "clip"
        patch = int(spec.config.get("patch_size", 32 if is_clip else 16))
        size = int(own.get("size", spec.config.get("image_size", 224)))
        return VideoContract(
            size,
            tuple(own.get("mean", _CLIP_MEAN if is_clip else _HALF)),
            tuple(own.get("std", _CLIP_STD if is_clip else _HALF)),
            own.get("resize_short", size if is_clip else None),
            own.get("interpolation", "bicubic"),
            size_multiple=patch,
        )

    @classmethod
    def spec_of(cls, spec: Spec, folder: WeightFolder) -> Spec:
        content = folder.read("config.json")
        kind = str(content.get("model_type"))
        if kind not in _WHOLE or spec.backbone not in ("", kind):
            wanted = spec.backbone or " or ".join(_WHOLE)
            raise WeightsError(f"{folder.name}: its config.json has model_type {kind!r}, not {wanted}.")
        # Files leave out what is the default of the library, which may change with its version.
        vision = getattr(library("transformers"), f"{_VISION[kind]}Config")(**(content.get("vision_config") or {}))
        found = {name: getattr(vision, name) for name in _SETTINGS if getattr(vision, name, None) is not None}
        if kind == "clip":
            found["projection_dim"] = content.get("projection_dim", found["projection_dim"])
        preprocessing = image_preprocessing(folder) | {"license": folder.license_id}
        return Spec(kind, merged(found, spec.config), merged(preprocessing, spec.preprocessing))


class _Network(nn.Module):
    """Image tower and projection.

    Args:
        vision_model: The tower of transformers.
        projection: The linear layer behind it; SigLIP has none.
    """

    def __init__(self, vision_model: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.vision_model, self.projection = vision_model, projection


class ImageTextBackbone(Backbone):
    """The network of :class:`ImageTextEncoder`."""

    modality: Modality = "video"
    has_pooling = True

    def __init__(self, spec: Spec) -> None:
        _check_name(spec.backbone)
        transformers, settings = library("transformers"), dict(spec.config)
        size = int(settings.get("projection_dim", 512))
        if unknown := sorted(set(settings) - set(_SETTINGS)):
            raise InputError(f"config ({unknown[0]!r}) is not a setting of this tower: {', '.join(_SETTINGS)}.")
        if spec.backbone == "siglip":
            settings.pop("projection_dim", None)
        try:
            config = getattr(transformers, f"{_VISION[spec.backbone]}Config")(**settings)
            vision = getattr(transformers, f"{_VISION[spec.backbone]}Model")(config)
        except (TypeError, ValueError) as error:
            raise InputError(f"config does not fit {spec.backbone}: {error}.") from error
        projection = nn.Linear(config.hidden_size, size, bias=False) if spec.backbone == "clip" else nn.Identity()
        blocks = {f"block.{number}": layer for number, layer in enumerate(vision.encoder.layers)}
        features = size if spec.backbone == "clip" else config.hidden_size
        contract = ImageTextEncoder.contract_of(spec)
        super().__init__(_Network(vision, projection), spec, features, contract, blocks, _LORA_TARGETS)

    def tokens(self, x: Tensor) -> Tokens:
        return self.pooled_and_tokens(x)[1]

    def pooled_and_tokens(self, x: Tensor) -> tuple[Tensor, Tokens]:
        before, behind = self._last_layer(x)
        pooled = self._frames(behind, x)
        return pooled.mean(dim=1), Tokens(self._grid(self._cells(before, behind), x), pooled[:, :, None])

    def pooled(self, x: Tensor) -> Tensor:
        return self._frames(self._last_layer(x)[1], x).mean(dim=1)

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        return self._grid(output[:, self._num_extra :], x)

    def load(self, folder: WeightFolder) -> nn.Module:
        whole = load_whole(_WHOLE[self.spec.backbone], folder)
        network = _Network(whole.vision_model, getattr(whole, "visual_projection", nn.Identity()))
        there, here = ({n: tuple(p.shape) for n, p in m.state_dict().items()} for m in (network, self.network))
        if wrong := [name for name in sorted(there | here) if there.get(name) != here.get(name)]:
            raise WeightsError(f"{folder.name}: not the weights of this tower: {differences(there, here, wrong)}.")
        return network

    def recompute_activations(self) -> None:
        self.network.vision_model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[union-attr, operator]

    @property
    def _num_extra(self) -> int:
        return int(self.spec.backbone == "clip")

    def _last_layer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B * T, extra + N, C) tokens of all frames before and behind the last layer."""
        vision: Any = self.network.vision_model
        own = vision.config.image_size
        hidden = vision.embeddings(images_of(x), interpolate_pos_encoding=tuple(x.shape[-2:]) != (own, own))
        if self.spec.backbone == "clip":
            hidden = vision.pre_layrnorm(hidden)
        *layers, last = vision.encoder.layers
        for layer in layers:
            hidden = layer(hidden, attention_mask=None)
        return hidden, last(hidden, attention_mask=None)

    def _frames(self, behind: Tensor, x: Tensor) -> Tensor:
        """Return the (B, T, C) vectors of the frames."""
        network: Any = self.network
        if self.spec.backbone == "clip":
            found = network.projection(network.vision_model.post_layernorm(behind[:, 0]))
        else:
            found = network.vision_model.head(network.vision_model.post_layernorm(behind))
        return by_clip(found, x)

    def _cells(self, before: Tensor, behind: Tensor) -> Tensor:
        """Return the (B * T, N, C) vectors of the patches."""
        network: Any = self.network
        vision = network.vision_model
        if self.spec.backbone == "siglip":
            alone = vision.post_layernorm(behind)
            return vision.head(alone.flatten(0, 1)[:, None]).view(*alone.shape[:2], -1)
        last, patches = vision.encoder.layers[-1], before[:, 1:]
        patches = patches + last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(patches)))
        patches = patches + last.mlp(last.layer_norm2(patches))
        return network.projection(vision.post_layernorm(patches))

    def _grid(self, patches: Tensor, x: Tensor) -> Tensor:
        """Return (B * T, N, C) patches as (B, C, T, H', W')."""
        patch: int = self.network.vision_model.config.patch_size  # type: ignore[union-attr, assignment]
        height, width = x.shape[-2] // patch, x.shape[-1] // patch
        return by_clip(patches.unflatten(1, (height, width)), x).permute(0, 4, 1, 2, 3)


def _check_name(name: str) -> None:
    if name not in _WHOLE:
        raise InputError(f"backbone ({name!r}) must be {' or '.join(_WHOLE)}, or empty beside pretrained.")
