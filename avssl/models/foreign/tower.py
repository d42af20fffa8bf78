"""Encoders of all libraries: frozen parts, LoRA, recomputed activations, rates by layer, attention over time."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor, nn

from avssl.core.distributed import is_main
from avssl.core.errors import InputError
from avssl.core.ranges import CountOrZero, PositiveOrZero, PositiveShare, checked
from avssl.models.blocks import Detail
from avssl.models.encoder import Encoder
from avssl.models.foreign.backbone import Backbone, Tokens, parameters_by_block
from avssl.models.foreign.contract import AudioContract, Contract
from avssl.models.foreign.libraries import library
from avssl.models.foreign.spec import Spec, parse_words
from avssl.models.foreign.temporal import TemporalTransformer
from avssl.models.foreign.weights import UNKNOWN_LICENSE, WeightFolder, WeightsError, named_weights, weight_folder

_LOGGER = logging.getLogger(__name__)
_Module = TypeVar("_Module", bound=nn.Module)
_LORA = "lora_"
"""Prefix of the modules that adapters add."""


@checked
class ForeignEncoder(Encoder):
    """Encoder of a backbone of another library.

    Args:
        backbone: Name of the network in its library; empty for the one that `pretrained` holds, or a small common one.
        pretrained: Folder of public weights (config.json and model.safetensors), or their hub id OWNER/NAME, which is
            downloaded once; empty or "false" for random weights.
        config: Settings of the network that differ from its own, such as depth=2 embed_dim=64. Those of `pretrained`
            are filled in.
        preprocessing: Settings of the input that differ from the network's own, such as size=336. Those of
            `pretrained` are filled in.
        pool: Pooling of all cells of the map into one vector; "token" takes the vector of the network's own pooling,
            "attention" learns which cells count.
        frozen: Keep the weights of the backbone fixed; adapters and layers on top are trained.
        frozen_stages: Number of blocks, with the stem before them, whose weights are fixed.
        lora: Rank of the low-rank adapters, which are trained in place of the backbone's weights; 0 for none.
        lora_alpha: Scale of the adapters times their rank; 0 for twice the rank.
        lora_targets: Names of the layers that get adapters; empty for the projections of all attention layers.
        recompute: Recompute activations of blocks in the backward pass, to save memory.
        layer_decay: Ratio of the learning rates of a block and the block above it, in (0, 1].
        temporal_layers: Transformer layers over the frames of each cell, on top of an image backbone.

    Raises:
        InputError: If the name, a setting or a combination of them is unknown or out of range.
    """

    library: ClassVar[str]
    """Name in the configuration."""
    default: ClassVar[str]
    """Backbone if none is named."""
    has_text: ClassVar[bool] = False
    """True if its public weights have a text tower, in whose space its own pooled vectors lie."""

    def __init__(
        self,
        backbone: str = "",
        *,
        pretrained: str = "",
        config: tuple[str, ...] = (),
        preprocessing: tuple[str, ...] = (),
        pool: Literal["mean", "max", "token", "attention"] = "mean",
        frozen: bool = False,
        frozen_stages: CountOrZero = 0,
        lora: CountOrZero = 0,
        lora_alpha: PositiveOrZero = 0.0,
        lora_targets: tuple[str, ...] = (),
        recompute: bool = False,
        layer_decay: PositiveShare = 1.0,
        temporal_layers: CountOrZero = 0,
    ) -> None:
        spec = Spec(
            backbone or self.default, parse_words("config", config), parse_words("preprocessing", preprocessing)
        )
        built = self.build(spec)
        stages = tuple(built.blocks())
        super().__init__(built.modality, built.num_features, stages, "mean" if pool == "token" else pool)
        self.backbone = built
        self.pools_map = pool != "token"
        if pool == "token" and (not built.has_pooling or temporal_layers):
            reason = "temporal_layers read the map" if temporal_layers else "it has no pooling of its own"
            raise InputError(
                f'pool ("token") must be "mean", "max" or "attention" for {backbone or self.library}: {reason}.'
            )
        self.pretrained = named_weights(pretrained)
        self.layer_decay = layer_decay
        self.audible_share = 1.0
        if frozen_stages > len(stages):
            raise InputError(
                f"frozen_stages ({frozen_stages}) must be at most {len(stages)}, the blocks of {spec.backbone}."
            )
        if lora and frozen_stages:
            raise InputError("frozen_stages is for full training; lora keeps all of the backbone's weights fixed.")
        if (lora_targets or lora_alpha) and not lora:
            raise InputError("lora_targets and lora_alpha need lora, the rank of the adapters.")
        self.temporal: TemporalTransformer | None = None
        if temporal_layers:
            if built.modality != "video":
                raise InputError(
                    f"temporal_layers is for image backbones; {spec.backbone} is an {built.modality} network."
                )
            self.temporal = TemporalTransformer(built.num_features, temporal_layers)
        if recompute:
            built.recompute_activations()
        if lora:
            _add_adapters(built, lora, lora_alpha or 2.0 * lora, lora_targets)
        groups = list(parameters_by_block(built, built.blocks()))  # the stem, then a group for each block
        for parameters in groups if frozen or lora else groups[: frozen_stages + 1] if frozen_stages else []:
            for name, parameter in parameters.items():
                if _LORA not in name:
                    parameter.requires_grad_(False)
        self.held_blocks = stages if frozen or lora else stages[:frozen_stages]
        self._is_frozen = not any(parameter.requires_grad for parameter in built.parameters())

    # ---------------------------------------------------------------- description of the network

    @classmethod
    def build(cls, spec: Spec) -> Backbone:
        """Build the untrained network of a description."""
        raise NotImplementedError

    @classmethod
    def contract_of(cls, spec: Spec) -> Contract:
        """Return the input contract of a description, without building the network."""
        raise NotImplementedError

    @classmethod
    def spec_of(cls, spec: Spec, folder: WeightFolder) -> Spec:
        """Return a description completed by the files of public weights."""
        raise NotImplementedError

    @property
    def contract(self) -> Contract:
        """Input that the backbone was trained on."""
        return self.backbone.contract

    @property
    def license_id(self) -> str:
        """License of the public weights."""
        return str(self.backbone.spec.preprocessing.get("license") or UNKNOWN_LICENSE)

    # ---------------------------------------------------------------- computation

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the map of cells: (B, C, T', H', W') or (B, C, T', F')."""
        return self._on_top(self.tokens(x).cells)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C) pooled features, without the map where the network pools by itself."""
        if self.pools_map:
            return super().forward(x)
        self.check_input(x)
        with torch.no_grad() if self._is_frozen else nullcontext():
            return self.backbone.pooled(x)

    def forward_pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, C) pooled features and the map of cells, from one pass."""
        if self.pools_map:
            return super().forward_pooled(x)
        self.check_input(x)
        with torch.no_grad() if self._is_frozen else nullcontext():
            pooled, tokens = self.backbone.pooled_and_tokens(x)
        return pooled, self._on_top(tokens.cells)

    def tokens(self, x: Tensor) -> Tokens:
        """Return the backbone's cells, and its class and register tokens apart from them."""
        self.check_input(x)
        with torch.no_grad() if self._is_frozen else nullcontext():
            return self.backbone.tokens(x)

    def forward_stages(self, x: Tensor, detail: Detail = "stages") -> dict[str, Tensor]:
        """Return the map of every block by name, in order; the last one is :meth:`forward_features`."""
        self.check_input(x)
        if detail not in ("stages", "blocks"):
            raise InputError(f'detail ({detail!r}) must be "stages" or "blocks".')
        with torch.no_grad() if self._is_frozen else nullcontext():
            maps = self.backbone.stage_maps(x)
        last = list(maps)[-1]
        if self.audible_share < 1:
            return {name: self._on_top(cells) for name, cells in maps.items()}
        return maps | {last: self._on_top(maps[last])}

    def set_window(self, audio_seconds: float) -> None:
        """Tell an audio backbone how long its clips are: cells of the padding behind them are no part of the map."""
        if isinstance(self.contract, AudioContract) and self.contract.max_seconds is not None:
            self.audible_share = min(1.0, audio_seconds / self.contract.max_seconds)

    def _on_top(self, cells: Tensor) -> Tensor:
        if self.audible_share < 1:
            cells = cells[:, :, : max(1, math.ceil(cells.shape[2] * self.audible_share))]
        return cells if self.temporal is None else self.temporal(cells)

    def blocks(self) -> dict[str, nn.Module]:
        """Return the blocks of the backbone by name, from input to output."""
        return self.backbone.blocks()

    def units(self) -> list[nn.Module]:
        return list(self.backbone.blocks().values())

    def train(self, mode: bool = True) -> Self:
        """Set the mode as PyTorch does, but keep fixed blocks in evaluation mode, without dropout."""
        super().train(mode)
        if mode and self._is_frozen:
            self.backbone.eval()
        elif mode:
            blocks = self.backbone.blocks()
            for name in self.held_blocks:
                hold(blocks[name])
        return self

    # ---------------------------------------------------------------- weights

    def parameters_by_depth(self) -> Iterator[tuple[int, list[nn.Parameter]]]:
        """Yield (depth, parameters): 0 for the last block and the layers on top of it; the stem is the deepest."""
        groups = list(parameters_by_block(self.backbone, self.backbone.blocks()))
        inside = {id(parameter) for parameters in groups for parameter in parameters.values()}
        yield 0, [parameter for parameter in self.parameters() if id(parameter) not in inside]
        for depth, parameters in enumerate(reversed(groups)):
            yield depth, list(parameters.values())

    def load_pretrained(self) -> None:
        """Load the public weights in place, without adapters and layers on top of them; logs their license.

        Raises:
            WeightsError: If they are missing, in another format, or of another network.
        """
        if not self.pretrained:
            self._warn_of_random_weights()
            return
        folder = weight_folder(self.pretrained)
        theirs = self.backbone.load(folder).state_dict()
        entries = without_adapters(self.backbone.network)
        with torch.no_grad():
            for name, value in theirs.items():
                entries[name].copy_(value)
        _LOGGER.info("%s starts from %s, license: %s", f"{self.modality:11}", self.pretrained, self.license_id)

    def _warn_of_random_weights(self) -> None:
        """Log a warning if the network is used for what random weights do not have."""
        if not is_main():
            return
        reason = ""
        if self.has_text:
            reason = "its vectors are in no space of a text tower"
        elif self.held_blocks:
            reason = f"{len(self.held_blocks)} of its blocks are held fixed, so that they stay random"
        if reason:
            _LOGGER.warning(
                "model.%s %s starts from random weights: %s. Name public weights: --model.%s.pretrained FOLDER",
                *(self.modality, self.library, reason, self.modality),
            )

    def base_names(self) -> list[str]:
        """Return the names of the tensors that are fixed copies of ``pretrained``; none where they are trained."""
        if not (self.pretrained and (self._is_frozen or self.has_adapters)):
            return []
        names = self.backbone.network.state_dict()
        return [f"backbone.network.{name}" for name in names if _LORA not in name]

    @property
    def has_adapters(self) -> bool:
        """True if low-rank adapters are trained in place of the backbone's weights."""
        return any(_LORA in name for name, _ in self.backbone.named_parameters())


def _add_adapters(backbone: Backbone, rank: int, alpha: float, targets: tuple[str, ...]) -> None:
    """Add low-rank adapters to linear layers in place.

    Source: Hu et al., 2022 (LoRA), https://arxiv.org/abs/2106.09685.
    """
    peft = library("peft")
    linear = [name for name, module in backbone.network.named_modules() if isinstance(module, nn.Linear)]
    chosen = {target: [n for n in linear if _matches(n, target)] for target in targets or backbone.lora_targets}
    for target, names in chosen.items():
        if targets and not names:
            kinds = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise InputError(f"lora_targets ({target!r}) is not a linear layer; there are {kinds}.")
    adapted = sorted({name for names in chosen.values() for name in names})
    if not adapted:
        raise InputError("lora: this backbone has no attention layers; name linear layers with lora_targets.")
    settings = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=adapted, lora_dropout=0.0, bias="none")
    peft.inject_adapter_in_model(settings, backbone.network)


def merge_adapters(model: _Module) -> _Module:
    """Return a model whose adapters are added to the weights that they adapt: a copy, or itself if it has none."""
    if not any(_LORA in name for name, _ in model.named_parameters()):
        return model
    model = copy.deepcopy(model)
    adapter: Any = library("peft.tuners.tuners_utils").BaseTunerLayer
    for path, module in list(model.named_modules()):
        if isinstance(module, adapter):
            module.merge()
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, module.get_base_layer())
    return model


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def without_adapters(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network by the names that they have without adapters."""
    return {
        name.replace(".base_layer.", "."): value for name, value in network.state_dict().items() if _LORA not in name
    }


def hold(block: nn.Module) -> None:
    """Set a block to evaluation mode, without dropout, but not its adapters."""
    for path, module in block.named_modules():
        if _LORA not in path:
            module.training = False


__all__ = ["ForeignEncoder", "WeightsError"]
