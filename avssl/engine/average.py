"""An exponential moving average of the weights: what is released, while the raw weights train.

Source: Polyak and Juditsky, 1992; in the form used here, Tarvainen and Valpola, NeurIPS 2017,
https://arxiv.org/abs/1703.01780, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from avssl.core.errors import InputError


class WeightAverage:
    """Averages a model's parameters and floating buffers, such as BatchNorm's statistics, over steps.

    After step t (from 1) the average moves by ``1 - d`` towards the model, with
    ``d = min(decay, t / (t + 9))``: a mean over the whole run at first, so that the first weights
    are forgotten at once. At 0.999 the last thousand steps count. Integer buffers are the model's own.

    Args:
        model: On its device. Not wrapped, but wrapping it later changes nothing.
        decay: In [0, 1).

    Raises:
        ValueError: If ``decay`` is out of range.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"decay ({decay}) must be in [0, 1); 0.999 is usual.")
        self.decay = decay
        self.num_updates = 0
        self._model = model
        self._average = {name: value.clone() for name, value in _floats(model).items()}

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average, once after each optimizer step."""
        self.num_updates += 1
        decay = min(self.decay, self.num_updates / (self.num_updates + 9))
        torch._foreach_lerp_(list(self._average.values()), list(_floats(self._model).values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the averaged weights; afterwards its own again, bit for bit."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def copy_to_model(self) -> None:
        """Gives the model the averaged weights for good, when training is over."""
        for name, value in _floats(self._model).items():
            value.copy_(self._average[name])

    def state_dict(self) -> dict[str, Any]:
        return {"num_updates": self.num_updates, "average": dict(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ``KeyError`` if the model has other tensors."""
        self.num_updates = state["num_updates"]
        for name, value in self._average.items():
            value.copy_(state["average"][name])

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, value in _floats(self._model).items():
            own = value.clone()
            value.copy_(self._average[name])
            self._average[name].copy_(own)


def _floats(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and floating buffers by name, without history."""
    return {name: value.detach() for name, value in model.state_dict().items() if value.is_floating_point()}
