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
    """Cost of one forward and backward pass.

    Example:
        >>> cost = StepCost(flops=40_000_000_000, saved_bytes=2 * 2**30)
        >>> cost.flops / 20e12, cost.saved_bytes / 2**30  # seconds on a GPU of 20 TFLOP/s, and GiB
        (0.002, 2.0)
    """

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

    Example:
        >>> model, x = torch.nn.Linear(3, 2, bias=False), torch.ones(4, 3)
        >>> step_cost(model, lambda: model(x).sum())  # 2 * 4 * 3 * 2 forward, as many for the gradient; x is kept
        StepCost(flops=96, saved_bytes=48)
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
    """Return the memory in bytes of weights, gradients, optimizer state and, if ``averaged``, a weight average.

    Args:
        model: The model; parameters that are not trained have neither gradient nor optimizer state.
        optimizer: "adamw" or "adam", with two running means of each weight, or "sgd", with one.
        averaged: Count a moving average of the weights too.

    Example:
        >>> state_bytes(torch.nn.Linear(3, 2), "adamw")  # 8 float32 weights: they, gradient, and two running means
        128
    """
    return module_bytes(model) * (2 if averaged else 1) + _trained_bytes(model) * (1 + _OPTIMIZER_COPIES[optimizer])


def checkpoint_bytes(task: nn.Module, optimizer: str, *, averaged: nn.Module | None = None) -> int:
    """Return the size in bytes of a checkpoint: task, optimizer state and the average of the module ``averaged``.

    Args:
        task: The task; parameters of its model that are not trained are left out, as checkpoints share them.
        optimizer: "adamw" or "adam", with two running means of each weight, or "sgd", with one.
        averaged: Module whose weights are averaged; None for none.

    Example:
        >>> checkpoint_bytes(torch.nn.Linear(3, 2), "adamw")  # 8 float32 weights and two running means of each
        96
    """
    average = 0 if averaged is None else module_bytes(averaged) - frozen_bytes(averaged)
    fixed = {value.data_ptr() for value in frozen_parameters(getattr(task, "model", task)).values()}
    state = sum(x.nbytes for x in task.state_dict().values() if local_part(x).data_ptr() not in fixed)
    return state + average + _trained_bytes(task) * _OPTIMIZER_COPIES[optimizer]


def frozen_bytes(model: nn.Module) -> int:
    """Return the size in bytes of the parameters that are not trained, which the checkpoints of a run share."""
    return sum(x.nbytes for x in frozen_parameters(model).values())


def module_bytes(module: nn.Module) -> int:
    """Return the size in bytes of the weights and buffers that are saved.

    Example:
        >>> module_bytes(torch.nn.Linear(3, 2))  # 8 float32 weights
        32
    """
    return sum(x.nbytes for x in module.state_dict().values())


def _trained_bytes(module: nn.Module) -> int:
    return sum(x.nbytes for x in module.parameters() if x.requires_grad)
