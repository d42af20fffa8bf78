"""Activation checkpointing: each block keeps its input only, and backward computes the rest of it again.

Source: Chen et al., 2016, https://arxiv.org/abs/1604.06174, by :func:`torch.utils.checkpoint.checkpoint`. Output and
gradient are equal bit for bit: the random generators have the same state again, and the running statistics of
BatchNorm move once.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from avssl.core.units import units_in
from avssl.models.chunking import statistics_held


def recompute_blocks(model: nn.Module) -> int:
    """Let backward recompute the activations of every unit of a model (:mod:`avssl.core.units`); return their number.

    Names in the state of the model are unchanged. Without gradient nothing is kept anyway, so nothing changes.
    """
    units = units_in(model)
    for unit in units:
        unit.forward = _Recomputed(unit)
    return len(units)


class _Recomputed:
    """Forward pass of a block that is computed again in the backward pass."""

    def __init__(self, block: nn.Module) -> None:
        self._block = block

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        forward = partial(type(self._block).forward, self._block)
        if not torch.is_grad_enabled():
            return forward(*inputs, **options)
        # A compiled program recomputes values alone: statistics move in its forward pass only.
        held: dict[str, Any] = {} if torch.compiler.is_compiling() else {"context_fn": self._contexts}
        return checkpoint(forward, *inputs, use_reentrant=False, **held, **options)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        norms = [module for module in self._block.modules() if isinstance(module, _BatchNorm)]
        return nullcontext(), statistics_held(norms)
