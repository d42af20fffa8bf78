"""Checks that every trainable parameter is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from avssl.core.errors import InputError, RunError


def check_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise ``ValueError`` if the optimizer lacks a trainable parameter, which would silently keep its first values."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in module.named_parameters() if p.requires_grad and id(p) not in held]
    if missing:
        raise InputError(
            f"{len(missing)} trainable parameters are not in the optimizer: {_shortened(missing)}. "
            "Add them, or freeze them with requires_grad_(False)."
        )


def check_gradients(parameters: Mapping[str, nn.Parameter]) -> None:
    """Raise ``RuntimeError`` if a parameter has no gradient: the model does not use it, and DDP would hang."""
    missing = [name for name, p in parameters.items() if p.grad is None]
    if missing:
        raise RunError(
            f"{len(missing)} trainable parameters got no gradient from the loss: {_shortened(missing)}. "
            "Use them in forward, or freeze them with requires_grad_(False)."
        )


def _shortened(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
