"""Momentum (target) model: a slowly moving copy whose embeddings are targets.

Source: He et al., CVPR 2020 (MoCo), https://arxiv.org/abs/1911.05722, eq. 2.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from avssl.core.errors import InputError
from avssl.models.av_model import AVModel


class MomentumModel(nn.Module):
    """``target = momentum * target + (1 - momentum) * online``, from equal weights on.

    It is called like the model. Only parameters are averaged: as in MoCo, its BatchNorm layers keep the
    statistics of their own forward passes, and are in the mode of the task.

    Args:
        model: Copied; it must not be wrapped yet.
        momentum: Share of itself that the copy keeps in a step, in [0, 1].

    Raises:
        ValueError: If ``momentum`` is out of range.
    """

    def __init__(self, model: AVModel, momentum: float) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise InputError(f"momentum ({momentum}) must be in [0, 1]; 0.999 is usual.")
        shared = {id(p): p for p in model.parameters() if not p.requires_grad}  # never move: one copy is enough
        self.model = copy.deepcopy(model, shared).requires_grad_(False)
        self.momentum = momentum

    @torch.no_grad()
    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Return the output of the copy, without gradient."""
        return self.model(*inputs, **options)

    @torch.no_grad()
    def follow(self, online: nn.Module) -> None:
        """Move the copy towards the model; call it once after each optimizer step."""
        for slow, fast in zip(self.model.parameters(), online.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.momentum)
