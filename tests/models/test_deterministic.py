"""The deterministic forms compute the same numbers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from avssl.engine import deterministic
from avssl.models.deterministic import FrameMaxPool, resize_positions


def gradient(function, x):
    x = x.clone().requires_grad_()
    y = function(x)
    (y * torch.arange(y.numel()).reshape(y.shape)).sum().backward()
    return y, x.grad


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_maximum_over_frames_is_that_of_3_d_pooling(layout):
    x = torch.randn(2, 3, 4, 9, 8).contiguous(memory_format=layout).relu()  # with equal values
    expected = gradient(nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)), x)
    assert all(map(torch.equal, gradient(FrameMaxPool(3, 2, 1), x), expected))
    with deterministic(True):
        assert all(map(torch.equal, gradient(FrameMaxPool(3, 2, 1), x), expected))


@pytest.mark.parametrize("grid", [(7, 5), (3, 9), (4, 6)])
def test_positions_are_those_of_bicubic_interpolation(grid):
    x = torch.randn(1, 5, 4, 6)
    expected = gradient(lambda p: F.interpolate(p, grid, mode="bicubic"), x)
    assert torch.equal(resize_positions(x, grid), expected[0])
    with deterministic(True):
        for got, value in zip(gradient(lambda p: resize_positions(p, grid), x), expected, strict=True):
            torch.testing.assert_close(got, value, rtol=1e-5, atol=1e-4)
