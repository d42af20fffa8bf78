"""Audio tower of CLAP with its projection into the space of its text tower.

Source: Wu et al., 2023 (CLAP), https://arxiv.org/abs/2211.06687. The vector of a clip is the projected mean of its
cells, so that a cell is in the space of texts too: the projection of that cell alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from avssl.models.foreign.backbone import Tokens
from avssl.models.foreign.hf import HFAudioEncoder
from avssl.models.foreign.hf_audio import Clap
from avssl.models.foreign.libraries import library
from avssl.models.foreign.spec import Spec, merged
from avssl.models.foreign.text import load_whole
from avssl.models.foreign.tower import without_adapters
from avssl.models.foreign.weights import WeightFolder, WeightsError, differences


class AudioTextEncoder(HFAudioEncoder):
    """Audio tower of CLAP: spectrograms to (B, C, T', F') in the space of its text tower."""

    library: ClassVar[str] = "audio_text"
    kinds: ClassVar[Mapping[str, str]] = {"clap": f"{__name__}:ClapWithProjection"}
    default: ClassVar[str] = "clap"
    has_text: ClassVar[bool] = True

    @classmethod
    def spec_of(cls, spec: Spec, folder: WeightFolder) -> Spec:
        found, content = super().spec_of(spec, folder), folder.read("config.json")
        names = ("projection_dim", "projection_hidden_act")
        projection = {name: content[name] for name in names if content.get(name) is not None}
        return replace(found, config=merged(projection, found.config))


class _Network(nn.Module):
    """Audio tower and projection, by the names of CLAP's files."""

    def __init__(self, audio_model: nn.Module, audio_projection: nn.Module) -> None:
        super().__init__()
        self.audio_model, self.audio_projection = audio_model, audio_projection
        self.config = audio_model.config

    def forward(self, **inputs: Any) -> Any:
        """Return the output of the tower without the projection."""
        return self.audio_model(**inputs)

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """Recompute the activations of the tower."""
        self.audio_model.gradient_checkpointing_enable(**options)  # type: ignore[operator]


class ClapWithProjection(Clap):
    """The network of :class:`AudioTextEncoder`."""

    has_pooling = True

    @classmethod
    def width(cls, config: Any) -> int:
        return int(config.projection_dim)

    @classmethod
    def layers(cls, network: Any) -> dict[str, nn.Module]:
        return super().layers(network.audio_model)

    def _create(self, spec: Spec) -> Any:
        audio_model = super()._create(spec)
        projection = library("transformers.models.clap.modeling_clap").ClapProjectionLayer(audio_model.config)
        return _Network(audio_model, projection)

    def load(self, folder: WeightFolder) -> nn.Module:
        whole = load_whole("ClapModel", folder)
        network = _Network(self._trimmed(whole.audio_model), whole.audio_projection)
        own = without_adapters(self.network)
        there, here = ({n: tuple(x.shape) for n, x in each.items()} for each in (network.state_dict(), own))
        if wrong := [name for name in sorted(there | here) if there.get(name) != here.get(name)]:
            raise WeightsError(f"{folder.name}: not the weights of this tower: {differences(there, here, wrong)}.")
        return network

    def tokens(self, x: Tensor) -> Tokens:
        return self.pooled_and_tokens(x)[1]

    def pooled(self, x: Tensor) -> Tensor:
        return self.pooled_and_tokens(x)[0]

    def pooled_and_tokens(self, x: Tensor) -> tuple[Tensor, Tokens]:
        network: Any = self.network
        cells = super().tokens(x).cells  # (B, C, T', F'), all of the padded window, as CLAP's own mean
        pooled = network.audio_projection(cells.flatten(2).mean(dim=2))
        return pooled, Tokens(network.audio_projection(cells.movedim(1, -1)).movedim(-1, 1))
