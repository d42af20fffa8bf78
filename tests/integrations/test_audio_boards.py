"""X-ARES and HEAR: the contracts of their models, and their own checkers where those are installed."""

import sys
import types

import numpy as np
import pytest
import torch

from avssl.core.errors import InputError
from avssl.integrations import hear
from avssl.integrations.recordings import Recordings
from avssl.integrations.xares import AvsslEncoder


@pytest.fixture(scope="module")
def model(tiny_release):
    return hear.load_model(str(tiny_release))


@pytest.fixture(scope="module")
def tone():
    """A second and a half of a tone that begins after 0.75 s, at 16 kHz."""
    times = torch.arange(24_000) / 16_000
    return (torch.sin(2 * torch.pi * 440 * times) * (times > 0.75))[None]


def test_hear_model_takes_a_rate_that_hear_offers(model):
    assert model.sampling.sample_rate_hz == 8000
    assert model.sample_rate == 16_000
    assert type(model.scene_embedding_size) is type(model.timestamp_embedding_size) is int


def test_hear_timestamps_are_milliseconds_every_50(model, tone):
    features, times = hear.get_timestamp_embeddings(tone.expand(2, -1), model)
    assert features.shape == (2, 30, model.timestamp_embedding_size)
    assert features.dtype == times.dtype == torch.float32
    assert times[1].tolist() == [25.0 + 50 * i for i in range(30)]
    steps = model.audio_steps(model.resampled(tone))
    # Step i covers [i, i + 1) / 13 s, and its features are those of its middle.
    middles_ms = (np.arange(steps.shape[1]) + 0.5) * 1000 / 13
    expected = [np.interp(times[1], middles_ms, channel) for channel in steps[0].T]
    np.testing.assert_allclose(features[0].T, expected, rtol=1e-4, atol=1e-5)


def test_hear_scene_embedding_is_the_mean_of_windows_that_cover_it(model, tone):
    scenes = hear.get_scene_embeddings(torch.cat([tone, -tone]), model)
    assert scenes.shape == (2, model.scene_embedding_size)
    waveform = model.resampled(tone)[0]
    windows = model.audio_windows(waveform)
    assert windows.shape == (2, 8000)  # 1.5 s, windows of 1 s
    torch.testing.assert_close(windows, torch.stack([waveform[:8000], waveform[-8000:]]))
    torch.testing.assert_close(scenes[0], model.features("audio", windows).mean(dim=0))


def test_short_audio_is_padded_with_silence(model):
    waveform = torch.ones(100)
    (window,) = model.audio_windows(waveform)
    assert window.tolist() == [1.0] * 100 + [0.0] * 7900
    features, times = hear.get_timestamp_embeddings(torch.ones(1, 100), model)
    assert features.shape[1] == times.shape[1] == 1


@pytest.mark.parametrize("audio", [torch.zeros(16_000), torch.zeros(1, 0)])
def test_hear_names_the_shape_of_wrong_audio(model, audio):
    with pytest.raises(InputError, match=r"\(sounds, samples\) with at least one sample"):
        hear.get_scene_embeddings(audio, model)


def test_the_model_stays_in_evaluation_mode(model):
    assert not model.train().model.training


def test_hear_validator_accepts_the_module(tiny_release, monkeypatch):
    # It imports TensorFlow only to tell models of it from those of PyTorch.
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(Module=type("Module", (), {})))
    validate = pytest.importorskip("hearvalidator.validate")
    validate.ValidateModel("avssl.integrations.hear", str(tiny_release), "cpu")()


def test_xares_encoder_has_features_over_time(tiny_release, monkeypatch):
    monkeypatch.setenv("AVSSL_CHECKPOINT", str(tiny_release))
    encoder = AvsslEncoder()
    audio = torch.randn(2, 20_000)
    features = encoder(audio)
    assert features.shape == (2, -(-20_000 * encoder.num_steps // 8000), encoder.output_dim)
    assert encoder.sampling_rate == 8000
    assert encoder.hop_size_in_ms == pytest.approx(1000 / encoder.num_steps)
    torch.testing.assert_close(features[:, : encoder.num_steps], encoder(audio[:, :8000]))
    torch.testing.assert_close(encoder(audio[0])[0], features[0], rtol=1e-4, atol=1e-5)


def test_xares_check_passes(tiny_release):
    checker = pytest.importorskip("xares.audio_encoder_checker")
    assert checker.check_audio_encoder(AvsslEncoder(tiny_release))


def test_xares_finds_one_encoder_in_the_file(tiny_release, monkeypatch):
    utils = pytest.importorskip("xares.utils")
    assert utils.attr_from_py_path("avssl/integrations/xares.py", endswith="Encoder") is AvsslEncoder


def test_windows_of_a_model_are_encoded_alike_one_by_one_and_together(tiny_release):
    from avssl.hub.pretrained import from_pretrained

    one, many = (Recordings(from_pretrained(tiny_release), batch_size=size) for size in (1, 32))
    windows = torch.randn(3, 8000)
    torch.testing.assert_close(one.features("audio", windows), many.features("audio", windows), rtol=1e-4, atol=1e-5)
