import pytest
import torch

from avssl.core.errors import InputError
from avssl.integrations.superb import UpstreamExpert


@pytest.fixture(scope="module")
def upstream(tiny_release):
    return UpstreamExpert(str(tiny_release), None, feature_selection="audio_feats")


def video(num_frames, levels=None):
    levels = torch.arange(num_frames) if levels is None else levels
    return levels.to(torch.uint8)[:, None, None, None].expand(-1, 3, 40, 60).contiguous()


def test_frames_are_taken_at_the_models_rate_and_size(upstream):
    frames = upstream.preprocess_video(video(25), 25)  # a second, of which the model sees four frames
    assert frames[:, 0, 0, 0].tolist() == [0, 6, 12, 18]
    short_side = upstream.sampling.short_side
    assert frames.shape == (4, 3, short_side, round(1.5 * short_side))
    gray = upstream.preprocess_video(video(25)[:, :1], 25)
    assert torch.equal(gray, frames)


def test_audio_is_mixed_and_resampled(upstream):
    stereo = torch.stack([torch.ones(32_000), torch.zeros(32_000)])
    waveform = upstream.preprocess_audio(stereo, 16_000)
    assert waveform.shape == (16_000,)
    torch.testing.assert_close(waveform[1000:-1000], torch.full((14_000,), 0.5), rtol=1e-3, atol=1e-3)
    assert torch.equal(upstream.preprocess_audio(waveform, 8000), waveform)


def test_features_of_a_batch_have_one_length(upstream):
    torch.manual_seed(0)
    long = (torch.randn(20_000), upstream.preprocess_video(video(20), 8))  # 2.5 s
    short = (torch.randn(4000), upstream.preprocess_video(video(4, 40 * torch.arange(4)), 8))  # 0.5 s
    features = upstream([long, short])
    sizes = upstream.num_features
    assert [each.shape for each in features["video_feats"]] == [(2, 3, sizes["video"])]
    assert [each.shape for each in features["audio_feats"]] == [(2, 3, sizes["audio"])]
    (both,) = features["fusion_feats"]
    torch.testing.assert_close(both, torch.cat([features["video_feats"][0], features["audio_feats"][0]], dim=2))
    alone = upstream([long])
    for name, (found,) in alone.items():
        torch.testing.assert_close(found[0], features[name][0][0], rtol=1e-4, atol=1e-5)


def test_wrong_frames_are_named(upstream):
    with pytest.raises(InputError, match="uint8"):
        upstream.preprocess_video(torch.zeros(4, 3, 8, 8), 25)
