"""Counts and shapes of the published table, and outputs against a reference of plain functions."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from avssl.models import create_encoder


def test_parameter_counts_match_the_table():
    with torch.device("meta"):
        encoder = create_encoder("avid_audio_cnn_10")
    counts = {name: sum(p.numel() for p in getattr(encoder, name).parameters()) for name in encoder.stage_names}
    assert counts == {"conv1": 3_264, "conv2x": 73_984, "conv3x": 221_696, "conv4x": 885_760, "conv5x": 3_540_992}
    assert sum(p.numel() for p in encoder.parameters()) == 4_725_696
    assert len(encoder.state_dict()) == 54


@pytest.mark.parametrize(
    ("frames", "bins", "stride", "sizes"),
    [
        (100, 257, 2, [(50, 129), (25, 65), (13, 33), (7, 17), (7, 17)]),
        (200, 257, 2, [(100, 129), (50, 65), (25, 33), (13, 17), (13, 17)]),
        (100, 129, 1, [(50, 65), (50, 65), (25, 33), (13, 17), (13, 17)]),  # the paper's ablations
    ],
)
def test_shapes_match_the_table(frames: int, bins: int, stride: int, sizes: list[tuple[int, int]]):
    with torch.device("meta"):
        encoder = create_encoder("avid_audio_cnn_10", first_block_stride=stride)
        stages = encoder.forward_stages(torch.empty(1, 1, frames, bins))
    widths = (64, 64, 128, 256, 512)
    expected = {name: (1, width, *size) for name, width, size in zip(encoder.stage_names, widths, sizes, strict=True)}
    assert {name: tuple(output.shape) for name, output in stages.items()} == expected
    assert encoder.stage_names == ("conv1", "conv2x", "conv3x", "conv4x", "conv5x")


def test_cost_of_two_seconds_is_the_published_one():
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        create_encoder("avid_audio_cnn_10")(torch.empty(1, 1, 200, 257))
    assert counter.get_total_flops() / 2e9 == pytest.approx(1.44, rel=5e-3)


def reference(x: Tensor, weights: Iterator[Tensor], training: bool, first_block_stride: int) -> Tensor:
    """The table, with plain functions that take the weights in the order they come."""
    strides = [2, first_block_stride, 1, 2, 1, 2, 1, 1, 1]
    for layer, stride in enumerate(strides):
        x = F.conv2d(x, next(weights), stride=stride, padding=3 if layer == 0 else 1)
        weight, bias, mean, var, _ = (next(weights) for _ in range(5))
        x = F.relu(F.batch_norm(x, mean.clone(), var.clone(), weight, bias, training=training, eps=1e-5))
    return x


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_output_matches_functional_reference(stride: int, training: bool):
    encoder = create_encoder("avid_audio_cnn_10", first_block_stride=stride).double().train(training)
    for module in encoder.modules():  # statistics and scales that an exchange of two layers would show
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    x = torch.randn(2, 1, 41, 66, dtype=torch.float64)
    weights = iter([value.clone() for value in encoder.state_dict().values()])
    with torch.no_grad():
        expected = reference(x, weights, training, stride)
        assert next(weights, None) is None
        torch.testing.assert_close(encoder.forward_features(x), expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(encoder(x), expected.amax(dim=(2, 3)), rtol=1e-9, atol=1e-9)
