"""BatchNorm whose statistics are held while everything else trains."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def hold_statistics(*models: nn.Module | None) -> None:
    """Puts every BatchNorm layer in eval mode: it normalizes with its running statistics, which stay.

    To be called after each ``train()``, which undoes it. Scales and offsets still learn.
    """
    for model in models:
        for module in () if model is None else model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
