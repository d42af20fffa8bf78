import pytest
import torch
import torch.nn.functional as F

from avssl.engine import Precision
from avssl.models import AVModel, create_encoder, create_head


def small_pair() -> AVModel:
    video, audio = create_encoder("small_video", width=8), create_encoder("small_audio", width=8)
    heads = [create_head("mlp", encoder.num_features, 16, hidden=32) for encoder in (video, audio)]
    return AVModel(video, audio, *heads)


@pytest.mark.parametrize(("temporal_stride", "frames"), [(4, 4), (2, 8), (1, 16)])
def test_video_map_has_one_cell_for_8_pixels(temporal_stride: int, frames: int):
    with torch.device("meta"):
        encoder = create_encoder("small_video", width=24, temporal_stride=temporal_stride)
        shape = encoder.forward_features(torch.empty(2, 3, 16, 112, 112)).shape
    assert shape == (2, encoder.num_features, frames, 14, 14)


@pytest.mark.parametrize("num_frames", [1, 3, 32])
def test_video_takes_any_number_of_frames(num_frames: int):
    with torch.device("meta"):
        encoder = create_encoder("small_video")
        assert encoder(torch.empty(2, 3, num_frames, 64, 80)).shape == (2, encoder.num_features)


def test_width_and_blocks_widen_and_deepen():
    with torch.device("meta"):
        narrow, wide = create_encoder("small_video", width=16), create_encoder("small_video", width=48)
        deep = create_encoder("small_video", width=16, num_blocks=(2, 3))
    assert wide.num_features == 3 * narrow.num_features
    assert [len(getattr(deep, name)) for name in ("stage1", "stage2")] == [2, 3]


def test_audio_map_of_two_seconds():
    with torch.device("meta"):
        encoder = create_encoder("small_audio")
        shape = encoder.forward_features(torch.empty(2, 1, 200, 64)).shape
    assert shape == (2, encoder.num_features, 25, 8)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("small_video", "num_blocks", (1, 2, 1)),
        ("small_video", "num_blocks", (1, 0)),
        ("small_audio", "strides", (2, 2, 2)),
    ],
)
def test_wrong_number_of_stages_is_refused(name: str, option: str, value: tuple[int, ...]):
    with pytest.raises(ValueError, match=rf"{option} \(.*\) must (be [24] numbers|all be) >= 1"):
        create_encoder(name, **{option: value})


def test_pair_trains_in_bfloat16_and_channels_last():
    model = small_pair()
    video, audio = torch.randn(4, 3, 8, 48, 48), torch.randn(4, 1, 64, 32)
    with torch.no_grad():
        expected = model(video, audio, needs_maps=True)
    Precision("fp32", "channels_last").apply(model, "cpu").remove()
    assert model.video_encoder.get_parameter("stem.0.weight").is_contiguous(memory_format=torch.channels_last_3d)
    video = video.to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = model(video, audio, needs_maps=True)
    for name in ("video", "audio", "video_map", "audio_map"):
        value, exact = getattr(got, name), getattr(expected, name)
        assert value.dtype == torch.bfloat16
        assert value.shape == exact.shape
        assert F.cosine_similarity(value.float(), exact, dim=1).min() > 0.98
    (got.video.float().square().sum() + got.audio.float().square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_channels_last_features_stay_channels_last():
    model = small_pair().eval()
    Precision("fp32", "channels_last").apply(model, "cpu").remove()
    # 16 clips: on one thread torch passes fewer in float32 to a convolution of its own, which knows one layout alone.
    video = torch.randn(16, 3, 8, 32, 32).to(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        features = model.video_encoder.forward_features(video)
        assert features.is_contiguous(memory_format=torch.channels_last_3d)
        assert model.video_map(video).is_contiguous(memory_format=torch.channels_last_3d)
