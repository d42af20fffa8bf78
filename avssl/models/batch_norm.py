"""BatchNorm with fixed statistics in training."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def hold_statistics(*models: nn.Module | None) -> None:
    """Put every BatchNorm layer in evaluation mode, so that its running statistics stay fixed.

    Call it after each ``train()``, which undoes it. Scales and offsets are still trained.
    """
    for model in models:
        for module in () if model is None else model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
