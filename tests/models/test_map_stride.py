"""Finer maps: the same weights, the same cells where the dilated network is asked, and errors that name the choices."""

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from avssl.models import Encoder, create_encoder
from avssl.models.map_stride import refine_map

NETWORKS: list[tuple[str, dict[str, Any], int]] = [
    ("avid_r2plus1d_10", {}, 32),
    ("avid_r2plus1d_10", {"stem_pool": False}, 16),
    ("r2plus1d_18", {}, 16),
    ("r3d_18", {}, 16),
    ("mc3_18", {}, 16),
    ("resnet18_image", {}, 32),
]


def like(encoder: Encoder, name: str, **options: Any) -> Encoder:
    """Another network with the same weights, in evaluation mode."""
    other = create_encoder(name, **options)
    other.load_state_dict(encoder.state_dict())  # strict: the same names and shapes
    return other.eval()


@pytest.mark.parametrize(("name", "options", "own"), NETWORKS)
@pytest.mark.parametrize("dilated", [False, True])
def test_a_cell_is_as_many_pixels_as_asked(name: str, options: dict[str, Any], own: int, dilated: bool) -> None:
    with torch.device("meta"):
        clip = torch.empty(1, 3, 9, 96, 131)
        whole = create_encoder(name, **options).forward_features(clip).shape
        for stride in (own // 2, own // 4):
            encoder = create_encoder(name, **options, stride=stride, dilated=dilated)
            shape = encoder.forward_features(clip).shape
            assert shape == (*whole[:3], -(-96 // stride), -(-131 // stride))


@pytest.mark.parametrize(("name", "options", "own"), NETWORKS)
def test_own_stride_is_the_network_as_it_is(name: str, options: dict[str, Any], own: int) -> None:
    with torch.device("meta"):
        plain, same = create_encoder(name, **options), create_encoder(name, **options, stride=own)
    assert str(plain) == str(same)


@pytest.mark.parametrize(("name", "options", "own"), NETWORKS)
def test_dilated_cells_are_those_of_the_coarse_map_and_others_between(
    name: str, options: dict[str, Any], own: int
) -> None:
    encoder = create_encoder(name, **options)
    clip = torch.randn(1, 3, 2, 40, 56)
    encoder(clip)  # moves the BatchNorm statistics
    encoder.eval()
    with torch.no_grad():
        coarse = encoder.forward_features(clip)
        for step in (2, 4):
            fine = like(encoder, name, **options, stride=own // step, dilated=True).forward_features(clip)
            torch.testing.assert_close(fine[..., ::step, ::step], coarse, rtol=1e-4, atol=1e-5)
        undilated = like(encoder, name, **options, stride=own // 4).forward_features(clip)
        assert undilated.shape == fine.shape
        assert not torch.allclose(undilated, fine, atol=1e-3)


def test_dilation_by_hand() -> None:
    """3x3 convolutions s2, s1, s2, s1: all of the second's neighbors are two cells away, of the fourth's four."""
    stages = [nn.Sequential(*(nn.Conv2d(1, 1, 3, stride, 1) for stride in (2, 1))) for _ in range(2)]
    refine_map(stages, 4, 1, dilated=True)
    convolutions = [conv for stage in stages for conv in stage]
    assert [conv.stride for conv in convolutions] == [(1, 1)] * 4
    assert [conv.dilation for conv in convolutions] == [(1, 1), (2, 2), (2, 2), (4, 4)]
    assert [conv.padding for conv in convolutions] == [(1, 1), (2, 2), (2, 2), (4, 4)]


def test_strides_over_time_stay() -> None:
    clip = torch.empty(1, 3, 16, 64, 64, device="meta")
    with torch.device("meta"):
        assert create_encoder("avid_r2plus1d_10", stride=8).forward_features(clip).shape[2:] == (2, 8, 8)
        assert create_encoder("r3d_18", stride=4).forward_features(clip).shape[2:] == (2, 16, 16)


@pytest.mark.parametrize("stride", [16, 8, 4])
def test_small_video_has_three_strides_of_one_shape_of_weights(stride: int) -> None:
    encoder = create_encoder("small_video", width=4)
    other = like(encoder, "small_video", width=4, stride=stride)
    with torch.no_grad():
        features = other.forward_features(torch.randn(1, 3, 2, 48, 50))
    assert features.shape == (1, 16, 2, 48 // stride, -(-50 // stride))
    if stride == 8:
        assert str(other) == str(encoder.eval())


@pytest.mark.parametrize(
    ("name", "options", "choices"),
    [
        ("avid_r2plus1d_18", {}, "32, 16 or 8"),
        ("avid_r2plus1d_18", {"stem_pool": False}, "16, 8 or 4"),
        ("r2plus1d_18", {}, "16, 8 or 4"),
        ("resnet18_image", {}, "32, 16 or 8"),
        ("small_video", {}, "16, 8 or 4"),
    ],
)
@pytest.mark.parametrize("stride", [0, 2, 64, 12])
def test_other_strides_are_refused(name: str, options: dict[str, Any], choices: str, stride: int) -> None:
    with pytest.raises(ValueError, match=rf"stride \({stride}\) must be {choices} pixels a cell"):
        create_encoder(name, **options, stride=stride)


@pytest.mark.parametrize("stride", [None, 32])
def test_dilation_of_nothing_is_refused(stride: int | None) -> None:
    with pytest.raises(ValueError, match="dilated needs a stride of 16 or 8: at the network's own, 32, there is noth"):
        create_encoder("resnet18_image", stride=stride, dilated=True)


def test_image_features_are_torchvisions_of_every_frame() -> None:
    network = resnet18(weights=None)
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    encoder = create_encoder("resnet18_image").eval()
    stem = {f"stem.{key}": value for key, value in state.items() if not key.startswith("layer")}
    encoder.load_state_dict(stem | {key: value for key, value in state.items() if key.startswith("layer")})
    network.avgpool, network.fc = nn.Identity(), nn.Identity()
    clip = torch.randn(2, 3, 3, 64, 96)
    with torch.no_grad():
        features = encoder.forward_features(clip)
        assert features.shape == (2, 512, 3, 2, 3)
        for t in range(3):
            expected = network.eval()(clip[:, :, t]).unflatten(1, (512, 2, 3))
            torch.testing.assert_close(features[:, :, t], expected)
        torch.testing.assert_close(encoder(clip), features.mean((2, 3, 4)))


def test_one_frame_is_a_clip_of_one() -> None:
    encoder = create_encoder("resnet18_image", pool="max").eval()
    clip = torch.randn(2, 3, 2, 64, 64)
    with torch.no_grad():
        both = encoder.forward_features(clip)
        torch.testing.assert_close(encoder.forward_features(clip[:, :, 1:]), both[:, :, 1:])
        # No frame knows of another: in another order it is the same features in that order.
        torch.testing.assert_close(encoder.forward_features(clip.flip(2)), both.flip(2))
        torch.testing.assert_close(encoder(clip), encoder(clip.flip(2)))


def test_frames_of_channels_last_clips_stay_channels_last() -> None:
    encoder = create_encoder("resnet18_image").eval()
    shapes = []
    encoder.stem.conv1.register_forward_pre_hook(
        lambda _, inputs: shapes.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    clip = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        expected = encoder.forward_features(clip)
        got = encoder.forward_features(clip.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert shapes == [False, True]
