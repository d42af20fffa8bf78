"""Optimizers by name, and learning rates as pure functions of the step, so that a resume restores no schedule."""

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
    """Parameters with their own factor of the learning rate. The optimizer's state keeps factor and first step.

    Example:
        >>> encoder, head = torch.nn.Conv1d(1, 1, 3, bias=False), torch.nn.Linear(1, 2, bias=False)
        >>> groups = [RateGroup(list(encoder.parameters()), lr_scale=0.1), RateGroup(list(head.parameters()))]
        >>> optimizer = create_optimizer(groups, "adam", lr=0.001, weight_decay=0.0)
        >>> [group["lr_scale"] for group in optimizer.param_groups]
        [0.1, 1.0]
    """

    params: Sequence[nn.Parameter]
    """Parameters; those with ``requires_grad=False`` are left out."""
    lr_scale: float = 1.0
    """Factor of the schedule's learning rate, >= 0."""
    from_step: int = 0
    """First step with a learning rate above 0. Before it, only the optimizer's running means change."""


def create_optimizer(
    params: nn.Module | Iterable[nn.Parameter] | Sequence[RateGroup],
    name: str,
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    undecayed: Iterable[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """Return an optimizer of the trainable parameters.

    Weight decay applies to matrices and kernels only. Biases, norm scales and other parameters with
    fewer than two dimensions are not decayed, because that costs accuracy; nor are those in ``undecayed``.
    On an accelerator one fused kernel moves all parameters; on a CPU each moves by itself, so that results
    stay those of earlier runs.

    Args:
        params: A module, parameters, or groups of parameters with their own learning rates. Parameters with
            ``requires_grad=False`` are left out.
        name: "adamw" (decoupled decay), "adam" (decay added to the gradient, as in AVID) or "sgd"
            (Nesterov momentum of ``betas[0]``).
        lr: Learning rate before any schedule, >= 0.
        weight_decay: Weight decay, >= 0.
        betas: Decay of the running means of the gradient and of its square, in [0, 1).
        undecayed: Parameters without weight decay that have two dimensions or more.

    Raises:
        ValueError: If the name is unknown, or nothing is trainable.

    Example:
        >>> optimizer = create_optimizer(torch.nn.Linear(3, 2), "adamw", lr=0.001, weight_decay=0.05)
        >>> [(tuple(group["params"][0].shape), group["weight_decay"]) for group in optimizer.param_groups]
        [((2, 3), 0.05), ((2,), 0.0)]
    """
    given: list[Any] = list(params.parameters() if isinstance(params, nn.Module) else params)
    rates = given if any(isinstance(group, RateGroup) for group in given) else [RateGroup(given)]
    skipped = {id(parameter) for parameter in undecayed}
    groups = [group for rate in rates for group in _split_by_decay(rate, weight_decay, skipped)]
    if not groups:
        raise InputError("no parameter requires a gradient, so there is nothing to optimize.")
    fused = True if all(p.device.type != "cpu" for group in groups for p in group["params"]) else None
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=betas, fused=fused)
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=betas[0], nesterov=betas[0] > 0, fused=fused)
    raise InputError(f"no optimizer {name!r}; there are {', '.join(_NAMES)}.")


def _split_by_decay(rate: RateGroup, weight_decay: float, skipped: set[int]) -> list[dict[str, Any]]:
    """Return the optimizer's groups of a rate group: parameters with and without weight decay."""
    trainable = [p for p in rate.params if p.requires_grad]
    decayed = [p for p in trainable if p.ndim >= 2 and id(p) not in skipped]
    rest = [p for p in trainable if p.ndim < 2 or id(p) in skipped]
    split = ((decayed, weight_decay), (rest, 0.0))
    own = {"lr_scale": rate.lr_scale, "from_step": rate.from_step}
    return [{"params": params, "weight_decay": decay, **own} for params, decay in split if params]


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up to ``peak``, then half a cosine down to ``final``.

    ::

        peak          .-----.
                   .´         `.
        final   .´              `-.
               0  warmup_steps     total_steps

    Step ``s`` of the warm-up has ``peak * (s + 1) / warmup_steps``, so the first step is not wasted on
    a rate of 0. ``final`` would be reached at ``total_steps``, one step after the last.

    Source of the cosine: Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983, eq. 5.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> schedule = WarmupCosine(peak=0.1, total_steps=8, warmup_steps=4)
        >>> [round(schedule(step), 3) for step in (0, 1, 3, 4, 6, 8)]
        [0.025, 0.05, 0.1, 0.1, 0.05, 0.0]
    """

    peak: float
    """Maximum learning rate."""
    total_steps: int
    """Steps of the whole run."""
    warmup_steps: int = 0
    """Steps of the warm-up, in [0, total_steps]."""
    final: float = 0.0
    """Learning rate at the end; ``peak`` gives a constant rate."""

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
    """Linear warm-up to ``peak``, then a constant rate that is multiplied by ``factor`` at each milestone.

    Step ``s`` of the warm-up has ``peak * (s + 1) / warmup_steps``. The step of a milestone has the new rate,
    also within the warm-up.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> schedule = WarmupSteps(peak=1.0, milestones=(4, 6), factor=0.5, warmup_steps=2)
        >>> [schedule(step) for step in range(7)]
        [0.5, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    """

    peak: float
    """Maximum learning rate."""
    milestones: tuple[int, ...]
    """Steps at which the rate changes, ascending."""
    factor: float
    """Factor of the rate at each milestone, > 0."""
    warmup_steps: int = 0
    """Steps of the warm-up, >= 0."""

    def __post_init__(self) -> None:
        if self.peak < 0 or not self.factor > 0 or self.warmup_steps < 0:
            raise InputError(
                f"peak ({self.peak}) and warmup_steps ({self.warmup_steps}) must be >= 0, factor ({self.factor}) > 0."
            )
        if list(self.milestones) != sorted(self.milestones):
            raise InputError(f"milestones {self.milestones} must be ascending.")

    def __call__(self, step: int) -> float:
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.peak * warmup * self.factor ** sum(step >= milestone for milestone in self.milestones)


def set_lr(optimizer: torch.optim.Optimizer, lr: float, step: int = 0) -> None:
    """Set the learning rate of every parameter group at a step: ``lr``, times the factor of its :class:`RateGroup`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0) if step >= group.get("from_step", 0) else 0.0
