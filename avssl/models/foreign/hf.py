"""Networks of transformers: what its image, video and audio models share.

Source: Wolf et al., 2020, https://arxiv.org/abs/1910.03771, and https://github.com/huggingface/transformers.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from avssl.core.errors import InputError
from avssl.core.lazy import load
from avssl.models.foreign.backbone import Backbone
from avssl.models.foreign.contract import AudioContract, Contract, VideoContract
from avssl.models.foreign.libraries import library
from avssl.models.foreign.spec import Spec, merged
from avssl.models.foreign.tower import ForeignEncoder
from avssl.models.foreign.weights import WeightFolder, WeightsError, differences, tell_unused, tensor_shapes

_HERE = "avssl.models.foreign."
VIDEO_KINDS: dict[str, str] = {
    "clip": f"{_HERE}hf_image:Clip",
    "siglip": f"{_HERE}hf_image:Siglip",
    "dinov2": f"{_HERE}hf_image:DinoV2",
    "dinov2_with_registers": f"{_HERE}hf_image:DinoV2WithRegisters",
    "dinov3_vit": f"{_HERE}hf_image:DinoV3",
    "dinov3_convnext": f"{_HERE}hf_image:DinoV3ConvNext",
    "videomae": f"{_HERE}hf_video:VideoMae",
    "vjepa2": f"{_HERE}hf_video:VJepa2",
}
"""Image and video networks by the name that is the ``model_type`` of their configuration."""
AUDIO_KINDS: dict[str, str] = {
    "ast": f"{_HERE}hf_audio:Ast",
    "clap": f"{_HERE}hf_audio:Clap",
    "hubert": f"{_HERE}hf_audio:Hubert",
    "wavlm": f"{_HERE}hf_audio:WavLm",
    "wav2vec2": f"{_HERE}hf_audio:Wav2Vec2",
    "wav2vec2-bert": f"{_HERE}hf_audio:Wav2Vec2Bert",
    "whisper": f"{_HERE}hf_audio:Whisper",
}
"""Audio networks by name."""
_ALIASES = {
    "audio-spectrogram-transformer": "ast",
    "clip_vision_model": "clip",
    "siglip_vision_model": "siglip",
    "clap_audio_model": "clap",
}
"""Other values of ``model_type``."""
_NOT_ARCHITECTURE = {"architectures", "transformers_version", "dtype", "torch_dtype", "model_type", "_name_or_path"}
_NOT_ARCHITECTURE |= {"id2label", "label2id", "problem_type", "return_dict", "output_hidden_states", "use_cache"}


class HFBackbone(Backbone):
    """A network of transformers.

    Args:
        spec: Its description; ``config`` are settings of its configuration class.

    Raises:
        InputError: If a setting is unknown.
    """

    config_class: ClassVar[str]
    model_class: ClassVar[str]
    processor_class: ClassVar[str]
    sub_config: ClassVar[str] = ""
    """Setting that holds this network's configuration in that of a model with text."""
    unused: ClassVar[tuple[str, ...]] = ("pooler", "mask_token", "masked_spec_embed", "predictor", "head")
    """Modules and parameters that do not take part in the map."""

    def __init__(self, spec: Spec) -> None:
        network = self._create(spec)
        width = self.width(network.config)
        super().__init__(network, spec, width, self.contract_of(spec), self.layers(network), _LORA_TARGETS)

    # ---------------------------------------------------------------- description of a kind

    @classmethod
    def width(cls, config: Any) -> int:
        """Return the channels of the map."""
        return int(config.hidden_size)

    @classmethod
    def layers(cls, network: Any) -> dict[str, nn.Module]:
        """Return the blocks of a network by name."""
        holders = [part for part in (getattr(network, "encoder", None), network) if part is not None]
        lists = (getattr(part, name, None) for part in holders for name in ("layer", "layers"))
        blocks = next(found for found in lists if isinstance(found, nn.ModuleList))
        return {f"block.{number}": block for number, block in enumerate(blocks)}

    @classmethod
    def contract_of(cls, spec: Spec) -> Contract:
        """Return the input of a description."""
        raise NotImplementedError

    @classmethod
    def configuration(cls, spec: Spec) -> Any:
        """Return the configuration object of a description."""
        builder = getattr(library("transformers"), cls.config_class)
        known = builder().to_dict()
        for name in spec.config:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise InputError(f"config ({name}) is not a setting of {cls.config_class}.{hint}")
        try:
            return builder(**merged(cls.fixed_settings(), spec.config))
        except Exception as error:  # its classes check their values by several libraries
            raise InputError(f"config {dict(spec.config)}: {' '.join(str(error).split())}") from error

    @classmethod
    def fixed_settings(cls) -> dict[str, Any]:
        """Return settings that the map needs."""
        return {}

    @classmethod
    def processor(cls, spec: Spec) -> dict[str, Any]:
        """Return the settings of the kind's own processor, with those of the description in their place."""
        own = getattr(library("transformers"), cls.processor_class)().to_dict()
        return own | dict(spec.preprocessing)

    # ---------------------------------------------------------------- weights

    def _create(self, spec: Spec) -> Any:
        builder = getattr(library("transformers"), self.model_class)
        config = self.configuration(spec)
        try:
            return self._trimmed(builder(config))
        except (ValueError, TypeError, RuntimeError, AssertionError) as error:
            raise InputError(f"config {dict(spec.config)} does not fit {self.model_class}: {error}") from error

    def _trimmed(self, network: Any) -> Any:
        """Remove in place what does not take part in the map."""
        for name in self.unused:
            for module in list(network.modules()):
                if isinstance(getattr(module, name, None), nn.Parameter):
                    getattr(module, name).requires_grad_(False)
            if isinstance(getattr(network, name, None), nn.Module):
                setattr(network, name, None)
        return network

    def load(self, folder: WeightFolder) -> nn.Module:
        folder.safetensors()
        builder = getattr(library("transformers"), self.model_class)
        try:
            network, report = builder.from_pretrained(
                folder.path,
                config=self.configuration(self.spec),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype="float32",
            )
        except Exception as error:  # transformers, safetensors and the hub's client raise many kinds
            raise WeightsError(f"{folder.name}: cannot be loaded: {' '.join(str(error).split())[:300]}") from error
        own = self.network.state_dict()
        here = {name.replace(".base_layer.", "."): tuple(value.shape) for name, value in own.items()}
        wrong = {str(name[0] if isinstance(name, tuple) else name) for name in report["mismatched_keys"]}
        wrong |= set(report["missing_keys"])
        if names := [name for name in here if name in wrong]:
            there = _nearest(tensor_shapes(folder), names)
            raise WeightsError(
                f"{folder.name}: not the weights of {self.spec.backbone}: {differences(there, here, names)}."
            )
        prefix = f"{getattr(self.network, 'base_model_prefix', '')}."
        tell_unused(folder, report["unexpected_keys"], self.spec.backbone, own, prefix)
        trimmed: nn.Module = self._trimmed(network)
        return trimmed

    def recompute_activations(self) -> None:
        network: Any = self.network
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


_LORA_TARGETS = ("query", "key", "value", "q_proj", "k_proj", "v_proj", "linear_q", "linear_k", "linear_v")


class _HFEncoder(ForeignEncoder):
    """Encoder of a network of transformers."""

    library: ClassVar[str] = "hf"
    kinds: ClassVar[Mapping[str, str]]

    @classmethod
    def _kind(cls, spec: Spec) -> type[HFBackbone]:
        if spec.backbone not in cls.kinds:
            others = AUDIO_KINDS if cls.kinds is VIDEO_KINDS else VIDEO_KINDS
            if spec.backbone in others:
                takes = "audio" if others is AUDIO_KINDS else "video"
                raise InputError(f"backbone ({spec.backbone!r}) takes {takes}: name it as model.{takes}.")
            near = difflib.get_close_matches(spec.backbone, cls.kinds, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"backbone ({spec.backbone!r}) must be one of {', '.join(cls.kinds)}.{hint}")
        kind: type[HFBackbone] = load(cls.kinds[spec.backbone])
        return kind

    @classmethod
    def build(cls, spec: Spec) -> Backbone:
        return cls._kind(spec)(spec)

    @classmethod
    def contract_of(cls, spec: Spec) -> VideoContract | AudioContract:
        return cls._kind(spec).contract_of(spec)

    @classmethod
    def spec_of(cls, spec: Spec, folder: WeightFolder) -> Spec:
        content = folder.read("config.json")
        found = str(content.get("model_type", ""))
        name = _ALIASES.get(found, found)
        if not found:
            raise WeightsError(f"{folder.name}: its config.json names no model_type; is it of another library?")
        if spec.backbone and spec.backbone != name:
            raise WeightsError(f"{folder.name}: holds weights of {name}, not of {spec.backbone}.")
        kind = cls._kind(Spec(name))
        content = content.get(kind.sub_config, content) if kind.sub_config else content
        own = getattr(library("transformers"), kind.config_class)().to_dict()
        config = {k: v for k, v in content.items() if k in own and own[k] != v and k not in _NOT_ARCHITECTURE}
        files = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
        given = next((content for content in map(folder.read, files) if content), {})
        default = kind.processor(Spec(name))
        preprocessing = {k: v for k, v in given.items() if k in default and default[k] != v and v is not None}
        preprocessing["license"] = folder.license_id
        return Spec(name, merged(config, spec.config), merged(preprocessing, spec.preprocessing))


class HFVideoEncoder(_HFEncoder):
    """Image network on every frame, or video network, of transformers: CLIP, SigLIP, DINOv2, DINOv3, VideoMAE ..."""

    kinds: ClassVar[Mapping[str, str]] = VIDEO_KINDS
    default: ClassVar[str] = "dinov2"


class HFAudioEncoder(_HFEncoder):
    """Audio network of transformers: AST, CLAP, HuBERT, WavLM, wav2vec 2.0, Whisper's encoder."""

    kinds: ClassVar[Mapping[str, str]] = AUDIO_KINDS
    default: ClassVar[str] = "ast"


def _nearest(shapes: Mapping[str, tuple[int, ...]], names: list[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes in a file by our names: files of whole models have a prefix before them."""
    found = {}
    for name in names:
        matches = [theirs for theirs in shapes if theirs == name or theirs.endswith(f".{name}")]
        if matches:
            found[name] = shapes[matches[0]]
    return found
