import pytest
import torch
import torch.nn.functional as F

from avssl.models import AVModel, ClipEncoder, create_encoder, create_head
from avssl.models.vit import VitFrames, VitSpectrogram

FRAMES = {"width": 12, "num_blocks": 3, "num_heads": 3, "grid": 2}
SOUND = {"width": 12, "num_blocks": 2, "num_heads": 3, "num_columns": 4, "num_rows": 2}


class Same(torch.nn.Module):
    """Preprocessing that changes nothing."""


@torch.no_grad()
def test_frames_are_encoded_alone_and_cells_lie_where_their_pixels_do():
    encoder = VitFrames(**FRAMES, num_registers=2).eval()
    x = torch.randn(2, 3, 3, 32, 32)
    features = encoder.forward_features(x)
    assert features.shape == (2, 12, 3, 2, 2)
    torch.testing.assert_close(encoder.forward_features(x[:, :, 1:2]), features[:, :, 1:2])
    first = encoder.forward_stages(x)["patches"]
    x[1, :, 2, :16, 16:] += 1  # the upper right patch of the last frame of the second clip
    moved = (encoder.forward_stages(x)["patches"] != first).any(dim=1).nonzero().tolist()
    assert moved == [[1, 2, 0, 1]]


@torch.no_grad()
def test_cells_of_a_spectrogram_are_time_first():
    encoder = VitSpectrogram(**SOUND).eval()
    x = torch.randn(1, 1, 64, 32)
    first = encoder.forward_stages(x)["patches"]
    assert first.shape == (1, 12, 4, 2)
    x[0, 0, 48:, 16:] += 1  # the last columns, the upper bins
    assert (encoder.forward_stages(x)["patches"] != first).any(dim=1).nonzero().tolist() == [[0, 3, 1]]
    shorter = encoder.forward_stages(x[:, :, :32])["patches"]
    torch.testing.assert_close(shorter, encoder.forward_stages(x)["patches"][:, :, :2])


@torch.no_grad()
def test_positions_of_larger_frames_are_interpolated():
    encoder = VitFrames(**FRAMES)
    assert encoder.positions((2, 2)) is encoder.patches.position
    expected = F.interpolate(encoder.patches.position, (3, 5), mode="bicubic")
    torch.testing.assert_close(encoder.positions((3, 5)), expected)
    assert encoder(torch.randn(1, 3, 1, 48, 80)).shape == (1, 12)


@torch.no_grad()
def test_class_token_is_pooled_and_registers_stay_apart():
    options = {**FRAMES, "num_registers": 3, "register_blocks": 2, "pool": "class"}
    encoder = VitFrames(**options).eval()
    x = torch.randn(2, 3, 2, 32, 32)
    pooled, features = encoder.forward_pooled(x)
    assert not encoder.pools_map
    torch.testing.assert_close(features, encoder.forward_features(x))
    torch.testing.assert_close(pooled, encoder(x))
    alone = torch.stack([encoder(x[:, :, t : t + 1]) for t in range(2)])
    torch.testing.assert_close(pooled, alone.mean(dim=0))
    assert not torch.allclose(pooled, encoder.pool(features))
    # The registers leave before the last block: their output there is no longer attended to.
    tokens = encoder.patches(encoder.images(x), encoder.positions((2, 2)))
    assert tokens.shape == (4, 1 + 4 + 3, 12)
    tokens = encoder.block2(encoder.block1(tokens))[:, :-3]
    torch.testing.assert_close(encoder.output(encoder.block3(tokens))[:, 0].view(2, 2, 12).mean(dim=1), pooled)


@torch.no_grad()
def test_model_embeds_the_class_token_on_every_way():
    encoders = VitFrames(**FRAMES, pool="class"), VitSpectrogram(**SOUND, class_token=True, pool="class")
    heads = [create_head("linear", 12, 5) for _ in range(2)]
    model = AVModel(*encoders, *heads).eval()
    video, audio = torch.randn(2, 3, 1, 32, 32), torch.randn(2, 1, 64, 32)
    expected = heads[0](encoders[0](video))
    torch.testing.assert_close(model.embed_video(video), expected)
    torch.testing.assert_close(model(video, audio, needs_maps=True).video, expected)
    torch.testing.assert_close(model.sound_queries(audio)[..., 0], heads[1](encoders[1](audio)))
    clip_encoder = ClipEncoder(model, Same().eval())
    for detail in (None, "stages", "blocks"):
        torch.testing.assert_close(clip_encoder.encode("video", video, detail).embedding, expected)
    with pytest.raises(
        ValueError, match=r"video_dropout \(0.5\) drops features of the map, but VitFrames pools a class"
    ):
        AVModel(*encoders, *heads, video_dropout=0.5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit_frames", {"num_heads": 5}, r"num_heads \(5\) must divide width \(12\)"),
        ("vit_frames", {"class_token": False, "pool": "class"}, r'pool \("class"\) needs a class token'),
        ("vit_frames", {"pool": "avg"}, r"pool \('avg'\) must be"),
    ],
)
def test_options_that_do_not_fit_raise(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_encoder(name, **{**FRAMES, **options})


def test_inputs_that_do_not_fit_raise():
    with pytest.raises(ValueError, match=r"patches of 16 x 16: 33 x 32 must be multiples of 16"):
        VitFrames(**FRAMES)(torch.zeros(1, 3, 1, 33, 32))
    with pytest.raises(ValueError, match=r"32 bins and at most 64 columns, got 32 bins and 80 columns"):
        VitSpectrogram(**SOUND)(torch.zeros(1, 1, 80, 32))
    sound = create_encoder("dense_av_audio", width=16, num_blocks=1, num_heads=2, conv_width=4, out_features=12)
    with pytest.raises(ValueError, match=r"of at least 2960 samples, got \(1, 1, 2959, 1\)"):
        sound(torch.zeros(1, 1, 2959, 1))
    assert sound.forward_features(torch.zeros(1, 1, 2960, 1)).shape == (1, 12, 1, 1)
