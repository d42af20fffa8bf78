"""Right gradients of 3-D convolutions in bf16 on a CPU where a clip is shorter than the kernel.

In torch 2.11 the gradient of the kernel reads memory that nothing has written, and is wrong or infinite, if bf16 is
computed by oneDNN, the kernel is longer than the input in time and the input is padded: 2 frames under a kernel of 3,
which many networks have in their last stage. Zeros in front of and behind the frames give the same convolution without
padding, whose gradient is right. 2-D convolutions (:mod:`avssl.engine.views`) have no such error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor


def pad_short_clips(model: nn.Module) -> Callable[[], None]:
    """Let the convolutions of a model write the zeros around short clips; return a function that undoes it."""
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv3d)
        and type(module).forward is nn.Conv3d.forward
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and module.padding[0] > 0
        and module.kernel_size[0] > 2
    ]
    for module in found:
        module.forward = partial(_forward, module)  # type: ignore[method-assign]

    def undo() -> None:
        for module in found:
            module.__dict__.pop("forward", None)

    return undo


def _forward(module: nn.Conv3d, x: Tensor) -> Tensor:
    before, *sides = (int(side) for side in module.padding)
    reach = module.dilation[0] * (module.kernel_size[0] - 1) + 1
    # Fake tensors count the cost of a step on any device, and compute nothing.
    if x.shape[2] >= reach or isinstance(x, FakeTensor):
        return module._conv_forward(x, module.weight, module.bias)
    padded = F.pad(x, (0, 0, 0, 0, before, before))
    return F.conv3d(padded, module.weight, module.bias, module.stride, (0, *sides), module.dilation, module.groups)
