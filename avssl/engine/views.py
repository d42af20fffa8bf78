"""Factorized 3-D convolutions and BatchNorm as 2-D operations on views of the same memory, with the same weights.

A kernel (1, k, k) sees each frame alone, a kernel (k, 1, 1) each pixel alone, as in (2+1)D networks (Tran et al., CVPR
2018, https://arxiv.org/abs/1711.11248). In the channels_last layout the numbers of clips lie in memory as
(B, T, H, W, C), so both are 2-D convolutions, and nothing is copied::

    kernel (1, k, k)   (B * T, C, H, W)   k x k over frames
    kernel (k, 1, 1)   (B, C, T, H * W)   k x 1 over images with a row for each frame
    BatchNorm          (B * T, C, H, W)   the same statistics

2-D kernels are the more common ones, and faster. Names and shapes of weights do not change; numbers differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor, nn


def has_factorized(model: nn.Module) -> bool:
    """Return True if a convolution of the model is over space alone or over time alone."""
    return any(kind is not BatchNormOnViews for _, kind in _with_views(model))


def use_views(model: nn.Module) -> Callable[[], None]:
    """Let the modules of a model that can compute on views do so; return a function that undoes it.

    Only modules of exactly ``nn.Conv3d`` and ``nn.BatchNorm3d`` change. ReLU no longer works in place: the gradient of
    a change within a view copies the whole tensor.
    """
    kinds = list(_with_views(model))
    in_place = [module for module in model.modules() if isinstance(module, nn.ReLU) and module.inplace]
    before = [type(module) for module, _ in kinds]
    for module, kind in kinds:
        module.__class__ = kind
    for relu in in_place:
        relu.inplace = False

    def undo() -> None:
        for (module, _), kind in zip(kinds, before, strict=True):
            module.__class__ = kind
        for relu in in_place:
            relu.inplace = True

    return undo


class SpatialConvOnViews(nn.Conv3d):
    """A convolution with kernel (1, k, k) over frames."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, T, H, W) to (B, C_out, T, H', W')."""
        stride, padding, dilation = self.stride[1:], self.padding[1:], self.dilation[1:]
        frames = F.conv2d(_frames(x), self.weight.squeeze(2), self.bias, stride, padding, dilation, self.groups)
        return _clips(frames, x)


class TemporalConvOnViews(nn.Conv3d):
    """A convolution with kernel (k, 1, 1) over images with a row for each frame."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, T, H, W) to (B, C_out, T', H, W)."""
        stride, padding, dilation = (self.stride[0], 1), (int(self.padding[0]), 0), (self.dilation[0], 1)
        weight = self.weight.squeeze(4)
        y = F.conv2d(x.flatten(3), weight, self.bias, stride, padding, dilation, self.groups)
        return y.unflatten(3, x.shape[3:])


class BatchNormOnViews(nn.BatchNorm3d):
    """BatchNorm of clips over their frames."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, T, H, W)."""
        y: Tensor = super().forward(_frames(x))
        return _clips(y, x)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept frames; :func:`_frames` takes clips alone."""


def _with_views(model: nn.Module) -> Iterator[tuple[nn.Module, type[nn.Module]]]:
    """Yield the modules that can compute on views, and the class that does."""
    for module in model.modules():
        if type(module) is nn.BatchNorm3d:
            yield module, BatchNormOnViews
        elif type(module) is nn.Conv3d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            over_time, *over_space = zip(module.kernel_size, module.stride, module.padding, strict=True)
            does_nothing = (1, 1, 0)
            if over_time == does_nothing:
                yield module, SpatialConvOnViews
            elif all(axis == does_nothing for axis in over_space):
                yield module, TemporalConvOnViews


def _frames(x: Tensor) -> Tensor:
    """View (B, C, T, H, W) as (B * T, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def _clips(frames: Tensor, like: Tensor) -> Tensor:
    """View (B * T, C, H, W) as (B, C, T, H, W) with the clips of ``like``."""
    return frames.unflatten(0, (like.shape[0], like.shape[2])).transpose(1, 2)
