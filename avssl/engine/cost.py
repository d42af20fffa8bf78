"""What a training step costs before any is paid for: operations and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_OPTIMIZER_COPIES = {"adamw": 2, "adam": 2, "sgd": 1}


@dataclass(frozen=True)
class StepCost:
    """Of one forward and backward pass."""

    flops: int
    """Floating-point operations of convolutions and matrix products, a multiplication and an addition counting two."""
    saved_bytes: int
    """What the forward pass keeps for the backward pass, each storage once, without the weights."""


def step_cost(model: nn.Module, run: Callable[[], Tensor]) -> StepCost:
    """Counts one step; the gradients it makes are removed again.

    Under torch's ``FakeTensorMode`` it counts the same, and computes and allocates nothing.

    Args:
        model: Whose weights are not counted as saved.
        run: The forward pass, from batch to loss.
    """
    # By the storage object, as a fake tensor has no address.
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    storages: dict[int, int] = {}
    held: list[Tensor] = []  # or a later storage would be given the place of an earlier one

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in weights and storage._cdata not in storages:
            storages[storage._cdata] = storage.nbytes()
            held.append(x.detach())
        return x

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            loss = run()
        loss.backward()
    model.zero_grad(set_to_none=True)
    return StepCost(counter.get_total_flops(), sum(storages.values()))


def state_bytes(model: nn.Module, optimizer: str, *, averaged: bool = False) -> int:
    """Memory of weights, gradients, the optimizer's running means and, if ``averaged``, of a weight average."""
    return module_bytes(model) * (2 if averaged else 1) + _trained_bytes(model) * (1 + _OPTIMIZER_COPIES[optimizer])


def checkpoint_bytes(task: nn.Module, optimizer: str, *, averaged: nn.Module | None = None) -> int:
    """Size of a checkpoint: what the task keeps, the optimizer's running means and the average of a part of it."""
    average = 0 if averaged is None else module_bytes(averaged)
    return module_bytes(task) + average + _trained_bytes(task) * _OPTIMIZER_COPIES[optimizer]


def module_bytes(module: nn.Module) -> int:
    """Of the weights and buffers that are saved."""
    return sum(x.nbytes for x in module.state_dict().values())


def _trained_bytes(module: nn.Module) -> int:
    return sum(x.nbytes for x in module.parameters() if x.requires_grad)
