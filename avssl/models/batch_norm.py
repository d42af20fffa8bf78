"""BatchNorm with fixed statistics in training, and with the statistics of all ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avssl.core import distributed


def hold_statistics(*models: nn.Module | None) -> None:
    """Put every BatchNorm layer in evaluation mode, so that its running statistics stay fixed.

    Call it after each ``train()``, which undoes it. Scales and offsets are still trained.
    """
    for model in models:
        for module in () if model is None else model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def synchronize_statistics(model: nn.Module) -> None:
    """Let every BatchNorm layer normalize by the statistics of the clips of all ranks in training.

    Value and gradient then equal those of one process that sees the whole batch. It costs one small collective a layer
    in each direction. Names in the state of the model are unchanged. torch's ``SyncBatchNorm`` has no CPU kernel, and
    does not know of layers that take their statistics from a part of their input.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, OverRanks):
            kind = type(module)
            module.__class__ = type(f"Synchronized{kind.__name__}", (OverRanks, kind), {})


class OverRanks(_BatchNorm):
    """Mixed into a BatchNorm class by :func:`synchronize_statistics`."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or distributed.world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        return normalized(self, x, *self.batch_statistics(x))

    def batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return variance and mean of each channel, and the number of values behind them, over all ranks.

        Statistics of ranks are combined, not sums of squares, whose difference has no digits left far from 0.

        Args:
            x: (N, C, ...), as many on every rank.
        """
        var, mean, count = batch_statistics(x)
        vars_, means = distributed.gather_with_grad(torch.stack([var, mean])[None]).unbind(1)  # (W, C)
        mean = means.mean(0)
        return (vars_ + (means - mean).square()).mean(0), mean, count * distributed.world_size()


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return the biased variance and the mean of each channel of (N, C, ...) in float32, and the number of values."""
    dims = [number for number in range(x.ndim) if number != 1]
    x = x if x.dtype == torch.float64 else x.float()
    var, mean = torch.var_mean(x, dim=dims, correction=0)
    return var, mean, x.numel() / max(1, x.shape[1])


def normalized(norm: _BatchNorm, x: Tensor, var: Tensor, mean: Tensor, count: float) -> Tensor:
    """Normalize (N, C, ...) by given statistics, and move the running statistics of a layer towards them once."""
    move_statistics(norm, var, mean, count)
    gain = torch.rsqrt(var + norm.eps)
    offset = -mean * gain
    if norm.affine:
        gain, offset = gain * norm.weight, offset * norm.weight + norm.bias
    shape = (-1, *(1 for _ in range(x.ndim - 2)))
    # Backward needs x and the gain only, as that of torch's BatchNorm.
    return torch.addcmul(offset.to(x.dtype).view(shape), x, gain.to(x.dtype).view(shape))


@torch.no_grad()
def move_statistics(norm: Any, var: Tensor, mean: Tensor, count: float) -> None:
    """Move the running mean and the running unbiased variance of a layer towards those of a batch."""
    if not norm.track_running_stats:
        return
    norm.num_batches_tracked.add_(1)
    momentum = 1 / norm.num_batches_tracked.float() if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean), momentum)
    norm.running_var.lerp_((var * (count / max(count - 1, 1))).to(norm.running_var), momentum)
