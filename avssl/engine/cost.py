"""Operations and memory of a training step, counted before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from avssl.core.sharded import local_part
from avssl.engine.frozen import frozen_parameters

_OPTIMIZER_COPIES = {"adamw": 2, "adam": 2, "sgd": 1}


@dataclass(frozen=True)
class StepCost:
    """Cost of one forward and backward pass."""

    flops: int
    """Floating-point operations of convolutions and matrix products; a multiply-add counts as two."""
    saved_bytes: int
    """Memory that the forward pass keeps for the backward pass, without the weights."""


def step_cost(model: nn.Module, run: Callable[[], Tensor]) -> StepCost:
    """Count the cost of one step, and clear its gradients.

    Works under torch's ``FakeTensorMode`` too, where nothing is computed or allocated.

    Args:
        model: The model, whose weights are not counted as saved.
        run: Runs the forward pass, from batch to loss.
    """
    # Identified by the storage object, because fake tensors have no address.
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    storages: dict[int, int] = {}
    held: list[Tensor] = []  # keeps storages alive, because a later one could reuse the same object address

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
    """Return the memory in bytes of weights, gradients, optimizer state and, if ``averaged``, a weight average."""
    return module_bytes(model) * (2 if averaged else 1) + _trained_bytes(model) * (1 + _OPTIMIZER_COPIES[optimizer])


def checkpoint_bytes(task: nn.Module, optimizer: str, *, averaged: nn.Module | None = None) -> int:
    """Return the size in bytes of a checkpoint: task, optimizer state and the average of the module ``averaged``."""
    average = 0 if averaged is None else module_bytes(averaged) - frozen_bytes(averaged)
    fixed = {value.data_ptr() for value in frozen_parameters(getattr(task, "model", task)).values()}
    state = sum(x.nbytes for x in task.state_dict().values() if local_part(x).data_ptr() not in fixed)
    return state + average + _trained_bytes(task) * _OPTIMIZER_COPIES[optimizer]


def frozen_bytes(model: nn.Module) -> int:
    """Return the size in bytes of the parameters that are not trained, which the checkpoints of a run share."""
    return sum(x.nbytes for x in frozen_parameters(model).values())


def module_bytes(module: nn.Module) -> int:
    """Return the size in bytes of the weights and buffers that are saved."""
    return sum(x.nbytes for x in module.state_dict().values())


def _trained_bytes(module: nn.Module) -> int:
    return sum(x.nbytes for x in module.parameters() if x.requires_grad)
