"""Base class of the networks that other libraries build.

Dimensions: B clips, T frames, C channels; primed letters count the cells of a map; K class and register tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.models.foreign.contract import Contract
from avssl.models.foreign.spec import Spec
from avssl.models.foreign.weights import WeightFolder


@dataclass(frozen=True)
class Tokens:
    """Output of a network."""

    cells: Tensor
    """(B, C, T', H', W') of video or (B, C, T', F') of audio."""
    extra: Tensor | None = None
    """(B, K, C) of video and audio networks, (B, T', K, C) of image networks: class and register tokens."""


class Backbone(nn.Module):
    """A network of another library whose tokens come back as maps.

    Args:
        network: The library's module.
        spec: Description that builds it again.
        num_features: C.
        contract: Input it was trained on.
        blocks: Its blocks from input to output. Parameters before the first one belong to a stem, those behind the
            last one to the last block.
        lora_targets: Names of the linear layers that get adapters unless others are named.
    """

    modality: Modality
    has_pooling = False
    """True if :meth:`pooled` returns the vector that the network itself pools a clip into."""

    def __init__(
        self,
        network: nn.Module,
        spec: Spec,
        num_features: int,
        contract: Contract,
        blocks: Mapping[str, nn.Module],
        lora_targets: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.network = network
        self.spec, self.num_features, self.contract = spec, num_features, contract
        self.lora_targets = lora_targets
        paths = {id(module): path for path, module in self.named_modules()}
        self._paths = {name: paths[id(module)] for name, module in blocks.items()}

    def blocks(self) -> dict[str, nn.Module]:
        """Return the blocks by name, from input to output."""
        return {name: self.get_submodule(path) for name, path in self._paths.items()}

    def tokens(self, x: Tensor) -> Tokens:
        """Return the tokens behind the last block and the network's own normalization."""
        raise NotImplementedError

    def pooled(self, x: Tensor) -> Tensor:
        """Return the (B, C) vector of each clip by the network's own pooling, without its map."""
        raise NotImplementedError

    def pooled_and_tokens(self, x: Tensor) -> tuple[Tensor, Tokens]:
        """Return :meth:`pooled` and :meth:`tokens`, from one pass."""
        raise NotImplementedError

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        """Return the map in the output of a block for input ``x``."""
        raise NotImplementedError

    def stage_maps(self, x: Tensor) -> dict[str, Tensor]:
        """Return the map of every block by name, in order; the last one is that of :meth:`tokens`."""
        outputs: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                outputs[name] = output[0] if isinstance(output, tuple) else output

            return hook

        handles = [module.register_forward_hook(keep(name)) for name, module in self.blocks().items()]
        try:
            last = self.tokens(x).cells
        finally:
            for handle in handles:
                handle.remove()
        maps = {name: self.cells_of(output, x) for name, output in list(outputs.items())[:-1]}
        return maps | {list(outputs)[-1]: last}

    def load(self, folder: WeightFolder) -> nn.Module:
        """Return the network with the weights of a folder, built by its library.

        Raises:
            WeightsError: If the folder has no safetensors, or those of another network.
        """
        raise NotImplementedError

    def recompute_activations(self) -> None:
        """Recompute the activations of blocks in the backward pass in place of keeping them."""
        raise NotImplementedError


def parameters_by_block(network: nn.Module, blocks: Mapping[str, nn.Module]) -> Iterator[Mapping[str, nn.Parameter]]:
    """Yield the parameters of the stem and of each block by name; those behind the last block belong to it."""
    owner = {id(p): index for index, block in enumerate(blocks.values(), 1) for p in block.parameters()}
    groups: list[dict[str, nn.Parameter]] = [{} for _ in range(len(blocks) + 1)]
    has_begun = False
    for name, parameter in network.named_parameters():
        index = owner.get(id(parameter))
        has_begun |= index is not None
        groups[index if index is not None else len(groups) - 1 if has_begun else 0][name] = parameter
    yield from groups


def images_of(x: Tensor) -> Tensor:
    """Return the (B * T, 3, H, W) frames of (B, 3, T, H, W) clips."""
    return x.transpose(1, 2).flatten(0, 1)


def by_clip(rows: Tensor, x: Tensor) -> Tensor:
    """Return (B * T, ...) outputs for the frames of (B, 3, T, H, W) clips as (B, T, ...)."""
    return rows.unflatten(0, (x.shape[0], x.shape[2]))  # len(x) would be a constant of an exported program
