"""Momentum (target) model: a slowly moving copy whose embeddings are targets.

Sources: He et al., CVPR 2020 (MoCo), https://arxiv.org/abs/1911.05722, eq. 2. A momentum that rises over the run is
from Grill et al., NeurIPS 2020 (BYOL), https://arxiv.org/abs/2006.07733, section 3.2.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn

from avssl.core.errors import InputError
from avssl.core.sharded import local_part
from avssl.models.av_model import AVModel


class MomentumModel(nn.Module):
    """``target = momentum * target + (1 - momentum) * online``, from equal weights on.

    It is called like the model. Only parameters are averaged: as in MoCo, its BatchNorm layers keep the
    statistics of their own forward passes, and are in the mode of the task.

    Args:
        model: Copied; it must not be wrapped yet.
        momentum: Share of itself that the copy keeps in a step, in [0, 1].
        final_momentum: Share at the end of the run, reached from ``momentum`` along half a cosine as
            :meth:`set_progress` is called; None keeps ``momentum``.

    Raises:
        ValueError: If a share is out of range.
    """

    def __init__(self, model: AVModel, momentum: float, final_momentum: float | None = None) -> None:
        super().__init__()
        final = momentum if final_momentum is None else final_momentum
        for name, share in (("momentum", momentum), ("final_momentum", final)):
            if not 0 <= share <= 1:
                raise InputError(f"{name} ({share}) must be in [0, 1]; 0.999 is usual.")
        shared = {id(p): p for p in model.parameters() if not p.requires_grad}  # never move: one copy is enough
        self.model = copy.deepcopy(model, shared).requires_grad_(False)
        self.momentum = self._first = momentum
        self._final = final

    def set_progress(self, share_done: float) -> None:
        """Set the momentum of a step, from the share of the run's steps before it, in [0, 1]."""
        if self._final != self._first:  # a constant stays as it was written, without rounding
            self.momentum = self._final - (self._final - self._first) * (1 + math.cos(math.pi * share_done)) / 2

    @torch.no_grad()
    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Return the output of the copy, without gradient."""
        return self.model(*inputs, **options)

    @torch.no_grad()
    def follow(self, online: nn.Module) -> None:
        """Move the copy towards the model; call it once after each optimizer step."""
        pairs = zip(self.model.parameters(), online.parameters(), strict=True)
        moving = [(slow, fast) for slow, fast in pairs if slow is not fast]  # one copy of what never moves
        if moving:
            slow, fast = ([local_part(x) for x in side] for side in zip(*moving, strict=True))
            torch._foreach_lerp_(slow, fast, 1 - self.momentum)  # one launch for all
