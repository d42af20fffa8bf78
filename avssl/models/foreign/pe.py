"""The video and the audio tower of PE-AV, from transformers.

Source: Vyas et al., 2025 (PE-AV), https://arxiv.org/abs/2512.19687; Bolya et al., 2025 (Perception Encoder),
https://arxiv.org/abs/2504.13181. The pooled vector is a class token that reads all frames, or the whole audio.

A cell of the video map is the class token for a video that shows its patch alone: attention pooling of one patch gives
it a weight of 1, similar to what Zhou et al., 2022 (MaskCLIP), https://arxiv.org/abs/2112.01071, do for CLIP, and the
layers over time read the patch's frames. So the projection that is trained on class tokens fits cells too.

Dimensions: B clips, T frames, N patches of a frame, C channels, L pooled channels of a frame; H', W' cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.models.foreign.backbone import Backbone, Tokens, by_clip, images_of
from avssl.models.foreign.contract import AudioContract, VideoContract
from avssl.models.foreign.libraries import library
from avssl.models.foreign.processors import video_preprocessing
from avssl.models.foreign.spec import Spec, merged
from avssl.models.foreign.tower import ForeignEncoder
from avssl.models.foreign.weights import WeightFolder, WeightsError, differences, read_tensors, tensor_shapes

PE_AV = "pe_audio_video"
"""``model_type`` of the whole model."""
NUM_FRAMES = 16
"""Frames of a clip, unless the processor in a folder says otherwise."""
WINDOW_SECONDS = 4.0
"""Default length of a clip. PE-AV is trained on clips of many lengths, and its files name none."""

_PREFIXES = {
    "video": ("video_model.video_encoder.", "audio_video_encoder.embedder.video_encoder.", "video_encoder.", ""),
    "audio": ("audio_model.audio_encoder.", "audio_video_encoder.embedder.audio_encoder.", "audio_encoder.", ""),
}
"""Names of a tower's tensors in files of the whole model, of a model of text and one modality, and of the tower."""
_COMPUTED = ("rope.", "rotary_emb.")
"""Parts of names of tensors that some files hold although they follow from the settings."""
_LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv")
_LAYERS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
_SETTINGS = (
    *_LAYERS,
    *("head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_parameters", "attention_bias"),
)
_VISION = ("architecture", "model_args")
_DAC = ("encoder_hidden_size", "hidden_size", "downsampling_ratios", "codebook_dim")


class PeVideoEncoder(ForeignEncoder):
    """Video tower of PE-AV: video (B, 3, T, H, W) to (B, C, 1, H', W'), and a class token."""

    library: ClassVar[str] = "pe_video"
    default: ClassVar[str] = PE_AV

    @classmethod
    def build(cls, spec: Spec) -> Backbone:
        return PeVideoBackbone(spec)

    @classmethod
    def contract_of(cls, spec: Spec) -> VideoContract:
        return _video_contract(spec)

    @classmethod
    def spec_of(cls, spec: Spec, folder: WeightFolder) -> Spec:
        content = _tower_config(folder, "video")
        found = {name: content[name] for name in _SETTINGS if content.get(name) is not None}
        vision = content.get("vision_config") or {}
        found["vision"] = {name: vision[name] for name in _VISION if vision.get(name) is not None}
        # transformers 5.24 loses the number of pooled channels of a nested config.
        shapes = _own(tensor_shapes(folder), _prefix(folder, "video"))
        if "embedder.proj.weight" in shapes:
            found["vision"]["num_labels"] = shapes["embedder.proj.weight"][1]
        preprocessing = video_preprocessing(folder) | {"license": folder.license_id}
        return Spec(PE_AV, merged(found, spec.config), merged(preprocessing, spec.preprocessing))


class PeAudioEncoder(ForeignEncoder):
    """Audio tower of PE-AV: waveforms (B, 1, S, 1) to (B, C, T', 1), a cell each 40 ms, and a class token."""

    library: ClassVar[str] = "pe_audio"
    default: ClassVar[str] = PE_AV

    @classmethod
    def build(cls, spec: Spec) -> Backbone:
        return PeAudioBackbone(spec)

    @classmethod
    def contract_of(cls, spec: Spec) -> AudioContract:
        rate = int(spec.preprocessing.get("sampling_rate", 48_000))
        return AudioContract(rate, "waveform", {"normalize": False}, audio_seconds=WINDOW_SECONDS)

    @classmethod
    def spec_of(cls, spec: Spec, folder: WeightFolder) -> Spec:
        content = _tower_config(folder, "audio")
        found = {name: content[name] for name in _SETTINGS if content.get(name) is not None}
        dac = content.get("dac_config") or {}
        found["dac"] = {name: dac[name] for name in _DAC if dac.get(name) is not None}
        own = {
            **folder.read("preprocessor_config.json"),
            **folder.read("processor_config.json").get("feature_extractor", {}),
        }
        preprocessing = {name: own[name] for name in ("sampling_rate", "hop_length") if own.get(name) is not None}
        preprocessing["license"] = folder.license_id
        return Spec(PE_AV, merged(found, spec.config), merged(preprocessing, spec.preprocessing))


class PeVideoBackbone(Backbone):
    """The network of :class:`PeVideoEncoder`."""

    modality: Modality = "video"
    has_pooling = True

    def __init__(self, spec: Spec) -> None:
        network = _build("pe_video", spec)
        self._check_pooling(network)
        vision = network.embedder.vision_model.timm_model
        blocks = {f"block.{number}": block for number, block in enumerate(vision.blocks)}
        blocks |= {f"layer.{number}": layer for number, layer in enumerate(network.layers)}
        super().__init__(network, spec, network.config.hidden_size, _video_contract(spec), blocks, _LORA_TARGETS)

    @staticmethod
    def _check_pooling(network: Any) -> None:
        vision = network.embedder.vision_model.timm_model
        pooling = getattr(vision, "attn_pool", None)
        if pooling is None or getattr(pooling, "pos_embed", None) is not None:
            raise InputError(f"config: {type(vision).__name__} has no attention pooling, which maps of PE-AV need.")

    def tokens(self, x: Tensor) -> Tokens:
        return self.pooled_and_tokens(x)[1]

    def pooled_and_tokens(self, x: Tensor) -> tuple[Tensor, Tokens]:
        patches = self._patches(x)
        pooled = self._pooled(patches, x)
        return pooled, Tokens(self._cells(patches, x), pooled[:, None])

    def pooled(self, x: Tensor) -> Tensor:
        return self._pooled(self._patches(x), x)

    def stage_maps(self, x: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        blocks = self.blocks()
        handles = [
            module.register_forward_hook(lambda _, __, output, name=name: outputs.__setitem__(name, output))
            for name, module in blocks.items()
        ]
        try:
            patches = self._patches(x)
            self._pooled(patches, x)
        finally:
            for handle in handles:
                handle.remove()
        maps = {name: self.cells_of(output, x) for name, output in outputs.items()}
        return maps | {list(maps)[-1]: self._cells(patches, x)}

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        if output.shape[0] == x.shape[0] and output.shape[1] == 1 + x.shape[2]:  # behind a layer over time
            return output[:, 1:].transpose(1, 2)[..., None, None]
        return self._grid(by_clip(output[:, self._vision.num_prefix_tokens :], x), x)

    def load(self, folder: WeightFolder) -> nn.Module:
        return _loaded(_build("pe_video", self.spec), folder, "video")

    def recompute_activations(self) -> None:
        _recompute(self.network)

    @property
    def _vision(self) -> Any:
        return self.network.embedder.vision_model.timm_model  # type: ignore[union-attr]

    def _patches(self, x: Tensor) -> Tensor:
        """Return the (B * T, K + N, C) tokens of all frames."""
        tokens: Tensor = self._vision.forward_features(images_of(x))
        return tokens

    def _pooled(self, patches: Tensor, x: Tensor) -> Tensor:
        """Return the (B, C) class tokens of whole frames."""
        return self._over_time(by_clip(self._vision.forward_head(patches), x))

    def _cells(self, patches: Tensor, x: Tensor) -> Tensor:
        """Return the (B, C, 1, H', W') class tokens of the patches at each place."""
        alone = patches[:, self._vision.num_prefix_tokens :]  # (B * T, N, C)
        pooled = by_clip(self._vision.forward_head(alone.flatten(0, 1)[:, None]).unflatten(0, alone.shape[:2]), x)
        rows = pooled.transpose(1, 2).flatten(0, 1)  # (B * N, T, L)
        return self._grid(self._over_time(rows).unflatten(0, (x.shape[0], 1, alone.shape[1])), x)

    def _grid(self, tokens: Tensor, x: Tensor) -> Tensor:
        """Return (B, T, N, C) tokens as (B, C, T, H', W')."""
        height, width = self._vision.patch_embed.dynamic_feat_size(tuple(x.shape[-2:]))
        return tokens.unflatten(2, (height, width)).permute(0, 4, 1, 2, 3)

    def _over_time(self, frames: Tensor) -> Tensor:
        """Return the (R, C) class tokens of rows of (R, T, L) frames."""
        network: Any = self.network
        embedded = network.embedder.data_proj(network.embedder.proj(F.normalize(frames, dim=-1)))
        return _class_token(network, embedded)[:, 0]


class PeAudioBackbone(Backbone):
    """The network of :class:`PeAudioEncoder`. The codec before its layers is never trained, as in its paper."""

    modality: Modality = "audio"
    has_pooling = True

    def __init__(self, spec: Spec) -> None:
        network = _build("pe_audio", spec)
        for part in (network.embedder.dac_encoder, network.embedder.bottleneck):
            part.requires_grad_(False)
        layers = {f"layer.{number}": layer for number, layer in enumerate(network.layers)}
        contract = PeAudioEncoder.contract_of(spec)
        super().__init__(network, spec, network.config.hidden_size, contract, layers, _LORA_TARGETS)
        self._hop_length = int(spec.preprocessing.get("hop_length", network.config.dac_config.hop_length))

    def tokens(self, x: Tensor) -> Tokens:
        return self.pooled_and_tokens(x)[1]

    def pooled_and_tokens(self, x: Tensor) -> tuple[Tensor, Tokens]:
        output = self._hidden(x)
        return output[:, 0], Tokens(self.cells_of(output, x), output[:, :1])

    def pooled(self, x: Tensor) -> Tensor:
        return self._hidden(x)[:, 0]

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        return output[:, 1:].transpose(1, 2)[..., None]

    def load(self, folder: WeightFolder) -> nn.Module:
        return _loaded(_build("pe_audio", self.spec), folder, "audio")

    def recompute_activations(self) -> None:
        _recompute(self.network)

    def _hidden(self, x: Tensor) -> Tensor:
        """Return the (B, 1 + T', C) class token and the tokens over time of (B, 1, S, 1) waveforms."""
        network: Any = self.network
        embedded, _ = network.embedder(padded(x[..., 0], self._hop_length))
        return _class_token(network, embedded)


def padded(waveform: Tensor, hop_length: int) -> Tensor:
    """Return (B, 1, S) waveforms whose ends are reflected up to a multiple of the hop, as their processor does."""
    missing = -waveform.shape[-1] % hop_length
    return F.pad(waveform, (0, missing), mode="reflect") if missing else waveform


def _class_token(network: Any, embedded: Tensor) -> Tensor:
    """Run the layers of a tower over (R, T, C) rows; return (R, 1 + T, C), the class token first."""
    hidden, _ = network.patch_embedder(embedded)
    places = network.rotary_emb(hidden, torch.arange(hidden.shape[1], device=hidden.device)[None])
    for layer in network.layers:
        hidden = layer(hidden, attention_mask=None, position_embeddings=places)
    output: Tensor = network.output(network.norm(hidden))
    return output


def _build(kind: str, spec: Spec) -> Any:
    """Build a tower by its library, untrained."""
    if spec.backbone != PE_AV:
        raise InputError(f"backbone ({spec.backbone!r}) must be {PE_AV}, the only network of {kind}, or empty.")
    settings = {name: value for name, value in spec.config.items() if name in _SETTINGS}
    unknown = sorted(set(spec.config) - set(settings) - {"vision", "dac"})
    if unknown:
        raise InputError(f"config ({unknown[0]!r}) is not a setting of this tower: {', '.join(_SETTINGS)}.")
    if kind == "pe_video":
        settings["vision_config"] = {"num_labels": 1024, **spec.config.get("vision", {})}
    else:
        settings["dac_config"] = dict(spec.config.get("dac", {}))
    module = library(f"transformers.models.{kind}.modeling_{kind}")
    configs = library(f"transformers.models.{kind}.configuration_{kind}")
    word = "Video" if kind == "pe_video" else "Audio"
    try:
        return getattr(module, f"Pe{word}Encoder")(getattr(configs, f"Pe{word}EncoderConfig")(**settings))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"config does not fit the {word.lower()} tower of PE-AV: {error}.") from error


def _tower_config(folder: WeightFolder, modality: str) -> Mapping[str, Any]:
    """Return the settings of a tower in the config of the whole model, of text and one modality, or of the tower."""
    content = folder.read("config.json")
    kind = content.get("model_type")
    name = f"{modality}_config"
    if kind == PE_AV:
        content = content.get("audio_video_config") or {}
    if kind in (PE_AV, f"pe_{modality}"):
        content = content.get(name) or {}
    elif kind != f"pe_{modality}_encoder":
        raise WeightsError(f"{folder.name}: its config.json has model_type {kind!r}, not {PE_AV} or pe_{modality}.")
    return content


def _prefix(folder: WeightFolder, modality: str) -> str:
    """Return what the names of a tower's tensors begin with in a folder."""
    names = tensor_shapes(folder)
    for prefix in _PREFIXES[modality]:
        if any(name.startswith(f"{prefix}patch_embedder.") for name in names):
            return prefix
    raise WeightsError(f"{folder.name}: holds no {modality} tower of PE-AV.")


def _own(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the entries of a tower by their names in it, without those that follow from the settings."""
    named = {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
    return {name: x for name, x in named.items() if not any(part in name for part in _COMPUTED)}


def _loaded(network: Any, folder: WeightFolder, modality: str) -> nn.Module:
    prefix = _prefix(folder, modality)
    tensors = _own(read_tensors(folder, (prefix,)), prefix)
    there = {name: tuple(x.shape) for name, x in tensors.items()}
    here = {name: tuple(x.shape) for name, x in network.state_dict().items()}
    wrong = [name for name in sorted(there | here) if there.get(name) != here.get(name)]
    if wrong:
        raise WeightsError(
            f"{folder.name}: not the weights of this {modality} tower: {differences(there, here, wrong)}."
        )
    network.load_state_dict(tensors)
    loaded: nn.Module = network
    return loaded


def _recompute(network: Any) -> None:
    network.gradient_checkpointing_enable({"use_reentrant": False})


def _video_contract(spec: Spec) -> VideoContract:
    own, vision = spec.preprocessing, spec.config.get("vision", {})
    size = own.get("size") or vision.get("model_args", {}).get("img_size")
    if size is None:
        name = str(vision.get("architecture", "vit_pe_core_large_patch14_336"))
        size = library("timm.models").get_pretrained_cfg(name).input_size[-1]
    half = (0.5, 0.5, 0.5)
    return VideoContract(
        int(size),
        tuple(own.get("mean", half)),
        tuple(own.get("std", half)),
        own.get("resize_short"),
        own.get("interpolation", "bilinear"),
        num_frames=int(own.get("num_frames", NUM_FRAMES)),
    )
