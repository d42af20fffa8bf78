"""Optimizers by name, and learning rates as pure functions of the step.

A schedule has no state, so a resumed run needs none of it restored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

Schedule = Callable[[int], float]
"""Learning rate of a step; steps count from 0."""

_NAMES = ("adamw", "adam", "sgd")


def create_optimizer(
    params: nn.Module | Iterable[nn.Parameter],
    name: str = "adamw",
    *,
    lr: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """An optimizer over the trainable parameters.

    Weight decay acts on matrices and kernels only: biases, norm scales and other parameters of
    fewer than two dimensions are left alone, as decaying them costs accuracy.

    Args:
        params: A module, or parameters; those with ``requires_grad=False`` are left out.
        name: "adamw" (decoupled decay), "adam" (decay added to the gradient, as in AVID) or "sgd"
            (Nesterov momentum of ``betas[0]``).
        lr: Learning rate before any schedule, >= 0.
        weight_decay: >= 0.
        betas: Decay of the running means of the gradient and of its square, in [0, 1).

    Raises:
        ValueError: If the name is unknown, or nothing is trainable.
    """
    params = params.parameters() if isinstance(params, nn.Module) else params
    trainable = [p for p in params if p.requires_grad]
    if not trainable:
        raise ValueError("no parameter requires a gradient, so there is nothing to optimize.")
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=betas)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=betas)
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=betas[0], nesterov=betas[0] > 0)
    raise ValueError(f"no optimizer {name!r}; there are {', '.join(_NAMES)}.")


@dataclass(frozen=True)
class WarmupCosine:
    """A linear climb to ``peak``, then half a cosine down to ``final``.

    ::

        peak          .-----.
                   .´         `.
        final   .´              `-.
               0  warmup_steps     total_steps

    Step ``s`` of the climb has ``peak * (s + 1) / warmup_steps``: the first step is not wasted on
    a rate of 0. ``final`` would be reached at ``total_steps``, one step after the last.

    Source of the cosine: Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983, eq. 5.

    Raises:
        ValueError: If the steps or the rates cannot be.
    """

    peak: float
    """Highest learning rate."""
    total_steps: int
    """Steps of the whole run."""
    warmup_steps: int = 0
    """Steps of the climb, 0 <= warmup_steps <= total_steps."""
    final: float = 0.0
    """Learning rate at the end; equal to ``peak`` for a constant rate."""

    def __post_init__(self) -> None:
        if self.total_steps < 1 or not 0 <= self.warmup_steps <= self.total_steps:
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) must lie in [0, total_steps], and total_steps "
                f"({self.total_steps}) must be at least 1."
            )
        if self.peak < 0 or self.final < 0:
            raise ValueError(f"learning rates must not be negative, got peak {self.peak} and final {self.final}.")

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))
        return self.final + (self.peak - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
