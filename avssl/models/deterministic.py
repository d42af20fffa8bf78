"""Operations whose gradients a GPU adds in no fixed order, in a form that has one.

They are in force where ``torch.use_deterministic_algorithms`` is (``--train.deterministic``). docs/reliability.md lists
the operations of a step.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrameMaxPool(nn.MaxPool3d):
    """Maximum over the pixels of each frame, (B, C, T, H, W); the same numbers in both forms.

    The gradient of a 3-D pooling has no deterministic kernel on CUDA; that of contiguous images has.

    Args:
        kernel_size: Height and width of the windows.
        stride: Pixels between windows.
        padding: Pixels around the frame.
    """

    def __init__(self, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__((1, kernel_size, kernel_size), (1, stride, stride), (0, padding, padding))

    def forward(self, x: Tensor) -> Tensor:
        if not torch.are_deterministic_algorithms_enabled():
            pooled: Tensor = super().forward(x)
            return pooled
        frames = x.transpose(1, 2).flatten(0, 1).contiguous()  # (B * T, C, H, W)
        given: tuple[Any, ...] = (self.kernel_size, self.stride, self.padding)
        kernel, stride, padding = (each[1:] for each in given)
        return F.max_pool2d(frames, kernel, stride, padding).unflatten(0, (x.shape[0], -1)).transpose(1, 2)


def resize_positions(position: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return (1, C, rows, columns) positions for another grid, by bicubic interpolation.

    It is linear in each direction, and so a product with the interpolated unit vectors, whose gradient is one too.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return F.interpolate(position, grid, mode="bicubic")
    rows, columns = (_weights(old, new, position) for old, new in zip(position.shape[2:], grid, strict=True))
    return rows @ position @ columns.mT


@torch.no_grad()
def _weights(old: int, new: int, like: Tensor) -> Tensor:
    """Return the (new, old) matrix of bicubic interpolation along one direction."""
    units = torch.eye(old, device=like.device, dtype=like.dtype)[None, None]  # each column is a signal
    return F.interpolate(units, (new, old), mode="bicubic")[0, 0]
