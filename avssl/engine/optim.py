"""Optimizers by name, and learning rates as pure functions of the step.

A schedule has no state, so a resumed run needs none of it restored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from avssl.core.errors import InputError

Schedule = Callable[[int], float]
"""Learning rate of a step; steps count from 0."""

_NAMES = ("adamw", "adam", "sgd")


@dataclass(frozen=True)
class RateGroup:
    """Parameters whose learning rate is the schedule's times a factor, from some step on.

    The factor and the step are kept in the optimizer's groups, and so in its state.
    """

    params: Sequence[nn.Parameter]
    """The parameters; those with ``requires_grad=False`` are left out."""
    lr_scale: float = 1.0
    """Factor of the schedule's rate, >= 0."""
    from_step: int = 0
    """Before this step the rate is 0: the parameters stay, while an optimizer's running means move."""


def create_optimizer(
    params: nn.Module | Iterable[nn.Parameter] | Sequence[RateGroup],
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
        params: A module, or parameters; those with ``requires_grad=False`` are left out. Or groups of them
            with rates of their own.
        name: "adamw" (decoupled decay), "adam" (decay added to the gradient, as in AVID) or "sgd"
            (Nesterov momentum of ``betas[0]``).
        lr: Learning rate before any schedule, >= 0.
        weight_decay: >= 0.
        betas: Decay of the running means of the gradient and of its square, in [0, 1).

    Raises:
        ValueError: If the name is unknown, or nothing is trainable.
    """
    given: list[Any] = list(params.parameters() if isinstance(params, nn.Module) else params)
    rates = given if any(isinstance(group, RateGroup) for group in given) else [RateGroup(given)]
    groups = [group for rate in rates for group in _split_by_decay(rate, weight_decay)]
    if not groups:
        raise InputError("no parameter requires a gradient, so there is nothing to optimize.")
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=betas)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=betas)
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=betas[0], nesterov=betas[0] > 0)
    raise InputError(f"no optimizer {name!r}; there are {', '.join(_NAMES)}.")


def _split_by_decay(rate: RateGroup, weight_decay: float) -> list[dict[str, Any]]:
    """The optimizer's groups of one rate: what is decayed and what is not, where there is any."""
    trainable = [p for p in rate.params if p.requires_grad]
    split = (([p for p in trainable if p.ndim >= 2], weight_decay), ([p for p in trainable if p.ndim < 2], 0.0))
    own = {"lr_scale": rate.lr_scale, "from_step": rate.from_step}
    return [{"params": params, "weight_decay": decay, **own} for params, decay in split if params]


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
            raise InputError(
                f"warmup_steps ({self.warmup_steps}) must lie in [0, total_steps], and total_steps "
                f"({self.total_steps}) must be at least 1."
            )
        if self.peak < 0 or self.final < 0:
            raise InputError(f"learning rates must not be negative, got peak {self.peak} and final {self.final}.")

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))
        return self.final + (self.peak - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class WarmupSteps:
    """A linear climb to ``peak``, then a constant rate that is multiplied by ``factor`` at each milestone.

    Step ``s`` of the climb has ``peak * (s + 1) / warmup_steps``. A milestone's own step has the new rate;
    milestones within the climb count too.

    Raises:
        ValueError: If the steps or the rates cannot be.
    """

    peak: float
    """Highest learning rate."""
    milestones: tuple[int, ...] = ()
    """Steps, ascending."""
    factor: float = 0.1
    """Of the rate at a milestone, > 0."""
    warmup_steps: int = 0
    """Steps of the climb, >= 0."""

    def __post_init__(self) -> None:
        if self.peak < 0 or not self.factor > 0 or self.warmup_steps < 0:
            raise InputError(
                f"peak ({self.peak}) and warmup_steps ({self.warmup_steps}) must be >= 0, factor ({self.factor}) > 0."
            )
        if list(self.milestones) != sorted(self.milestones):
            raise InputError(f"milestones {self.milestones} must be ascending.")

    def __call__(self, step: int) -> float:
        climbed = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.peak * climbed * self.factor ** sum(step >= milestone for milestone in self.milestones)


def set_lr(optimizer: torch.optim.Optimizer, lr: float, step: int = 0) -> None:
    """Gives every parameter group its rate at a step: ``lr``, or what :class:`RateGroup` makes of it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0) if step >= group.get("from_step", 0) else 0.0
