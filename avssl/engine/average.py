"""Exponential moving average of the weights, which is released in place of the trained weights.

Source: Polyak and Juditsky, 1992; this form: Tarvainen and Valpola, NeurIPS 2017,
https://arxiv.org/abs/1703.01780, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from avssl.core.errors import InputError
from avssl.core.sharded import local_part, part_like


class WeightAverage:
    """Average over steps of a model's parameters and floating-point buffers, such as BatchNorm statistics.

    Step t, counted from 1, moves the average by ``1 - d`` towards the model, with
    ``d = min(decay, t / (t + 9))``. The first steps average the whole run, so the initial weights are soon
    forgotten; at 0.999 the average covers about the last thousand steps. Integer buffers are not averaged.

    Args:
        model: The model on its device, before DDP wraps it.
        decay: Decay of the average, in [0, 1).

    Raises:
        ValueError: If ``decay`` is out of range.

    Example:
        >>> model = torch.nn.Linear(1, 1)
        >>> _ = torch.nn.init.zeros_(model.weight)
        >>> average = WeightAverage(model, decay=0.999)
        >>> _ = torch.nn.init.ones_(model.weight)  # a step of the optimizer
        >>> average.update()  # 0.1 * 0 + 0.9 * 1, as t = 1
        >>> with average.applied():
        ...     round(model.weight.item(), 4)
        0.9
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"decay ({decay}) must be in [0, 1); 0.999 is usual.")
        self.decay = decay
        self.num_updates = 0
        self._average = {name: value.clone() for name, value in _floats(model).items()}
        # Where the model keeps each: its state_dict would cost more time than the update itself.
        split = {name: name.rpartition(".") for name in self._average}
        self._places = {name: (model.get_submodule(owner), own) for name, (owner, _, own) in split.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the average; call it once after each optimizer step."""
        self.num_updates += 1
        decay = min(self.decay, self.num_updates / (self.num_updates + 9))
        averages, values = (
            [local_part(value) for value in values.values()] for values in (self._average, self._values())
        )
        torch._foreach_lerp_(averages, values, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights within the context, and its own bit for bit afterwards."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def copy_to_model(self) -> None:
        """Replace the model's weights by the average, at the end of training."""
        for name, value in self._values().items():
            value.copy_(self._average[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the number of updates and the averaged tensors by name, for a checkpoint."""
        return {"num_updates": self.num_updates, "average": dict(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the average. Raises ``KeyError`` if the model has other tensors."""
        self.num_updates = state["num_updates"]
        for name, value in self._average.items():
            value.copy_(part_like(state["average"][name], value))

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, value in self._values().items():
            own = value.clone()
            value.copy_(self._average[name])
            self._average[name].copy_(own)

    def _values(self) -> dict[str, Tensor]:
        """Return the model's own values as they are now, detached."""
        return {name: getattr(module, own).detach() for name, (module, own) in self._places.items()}


def _floats(model: nn.Module) -> dict[str, Tensor]:
    """Return trained parameters and floating-point buffers by name, detached."""
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {
        name: value.detach()
        for name, value in model.state_dict().items()
        if value.is_floating_point() and name not in fixed
    }
