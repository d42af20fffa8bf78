"""Counts and shapes of the published table, and outputs against a reference of plain functions."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from avssl.models import create_encoder

NUM_BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def num_parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def meta_shapes(name: str, *shape: int, **options: bool) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        stages = create_encoder(name, **options).forward_stages(torch.empty(1, 3, *shape))
    return {stage: tuple(output.shape[1:]) for stage, output in stages.items()}


@pytest.mark.parametrize(("depth", "count"), [(10, 7_015_616), (18, 15_379_136), (34, 28_861_632)])
def test_parameter_count(depth: int, count: int):
    with torch.device("meta"):
        encoder = create_encoder(f"avid_r2plus1d_{depth}")
    assert num_parameters(encoder) == count


def test_depth_18_matches_the_table_stage_by_stage():
    with torch.device("meta"):
        encoder = create_encoder("avid_r2plus1d_18")
    counts = {name: num_parameters(getattr(encoder, name)) for name in encoder.stage_names}
    assert counts == {
        "conv1": 28_352,
        "conv2x": 197_632,
        "conv3x": 722_944,
        "conv4x": 2_887_680,
        "conv5x": 11_542_528,
    }
    assert len(encoder.state_dict()) == 201
    # No bias outside BatchNorm, and no BatchNorm in a shortcut.
    assert [key for key in encoder.state_dict() if key.endswith("bias") and "bn" not in key] == []
    shortcuts = [key for key in encoder.state_dict() if "shortcut" in key]
    assert shortcuts == [f"{stage}.0.shortcut.weight" for stage in ("conv3x", "conv4x", "conv5x")]


@pytest.mark.parametrize("depth", NUM_BLOCKS)
@pytest.mark.parametrize(
    ("size", "sizes"),
    [(112, (28, 28, 14, 7, 4)), (224, (56, 56, 28, 14, 7))],
)
def test_shapes_of_8_frames(depth: int, size: int, sizes: tuple[int, ...]):
    assert meta_shapes(f"avid_r2plus1d_{depth}", 8, size, size) == {
        "conv1": (64, 8, sizes[0], sizes[0]),
        "conv2x": (64, 8, sizes[1], sizes[1]),
        "conv3x": (128, 4, sizes[2], sizes[2]),
        "conv4x": (256, 2, sizes[3], sizes[3]),
        "conv5x": (512, 1, sizes[4], sizes[4]),
    }


def test_without_stem_pool_the_maps_are_twice_as_fine():
    assert meta_shapes("avid_r2plus1d_10", 8, 112, 112, stem_pool=False) == {
        "conv1": (64, 8, 56, 56),
        "conv2x": (64, 8, 56, 56),
        "conv3x": (128, 4, 28, 28),
        "conv4x": (256, 2, 14, 14),
        "conv5x": (512, 1, 7, 7),
    }
    with torch.device("meta"):
        assert num_parameters(create_encoder("avid_r2plus1d_10", stem_pool=False)) == 7_015_616


@pytest.mark.parametrize(("shape", "gmac"), [((8, 112, 112), 3.08), ((8, 224, 224), 12.13), ((32, 224, 224), 48.5)])
def test_cost_is_the_published_one(shape: tuple[int, ...], gmac: float):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        create_encoder("avid_r2plus1d_18")(torch.empty(1, 3, *shape))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, rel=2e-3)


def reference(x: Tensor, weights: Iterator[Tensor], num_blocks: tuple[int, ...], training: bool, pool: bool) -> Tensor:
    """The table, with plain functions that take the weights in the order they come."""

    def norm(x: Tensor) -> Tensor:
        weight, bias, mean, var, _ = (next(weights) for _ in range(5))
        return F.batch_norm(x, mean.clone(), var.clone(), weight, bias, training=training, eps=1e-5)

    def spatial(x: Tensor, stride: int = 1) -> Tensor:
        return F.conv3d(x, next(weights), stride=(1, stride, stride), padding=(0, 1, 1))

    def temporal(x: Tensor, stride: int = 1) -> Tensor:
        return F.conv3d(x, next(weights), stride=(stride, 1, 1), padding=(1, 0, 0))

    x = F.relu(norm(F.conv3d(x, next(weights), stride=(1, 2, 2), padding=(1, 3, 3))))
    if pool:
        x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for stage, count in enumerate(num_blocks):
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            y = F.relu(norm(spatial(x, stride)))
            y = F.relu(norm(temporal(y, stride)))
            y = F.relu(norm(spatial(y)))
            y = temporal(y)
            shortcut = F.conv3d(x, next(weights), stride=stride) if stride == 2 else x
            x = F.relu(norm(shortcut + y))
    return x


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("depth", "stem_pool"), [(10, False), (10, True), (18, True), (34, True)])
def test_output_matches_functional_reference(depth: int, stem_pool: bool, training: bool):
    encoder = create_encoder(f"avid_r2plus1d_{depth}", stem_pool=stem_pool).double().train(training)
    for module in encoder.modules():  # statistics and scales that an exchange of two layers would show
        if isinstance(module, torch.nn.BatchNorm3d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 5, 35, 44, dtype=torch.float64)  # odd sizes: the padding shows
    weights = iter([value.clone() for value in encoder.state_dict().values()])
    with torch.no_grad():
        expected = reference(x, weights, NUM_BLOCKS[depth], training, stem_pool)
        assert next(weights, None) is None
        torch.testing.assert_close(encoder.forward_features(x), expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(encoder(x), expected.amax(dim=(2, 3, 4)), rtol=1e-9, atol=1e-9)
