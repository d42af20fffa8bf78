import math

import numpy as np
import pytest
import torch
import torchaudio

from avssl.transforms import LogMel, LogSpectrogram


def make_waveform(seconds: float, count: int = 2, sample_rate_hz: int = 24_000) -> torch.Tensor:
    """Noise under a sweep: every bin and every frame holds something of its own."""
    time = torch.arange(round(seconds * sample_rate_hz), dtype=torch.float64) / sample_rate_hz
    sweep = 0.5 * torch.sin(2 * math.pi * (200 * time + 2000 * time**2))
    noise = 0.01 * torch.randn(count, len(time), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return (sweep + noise).float()


def by_numpy(waveform: torch.Tensor, window_length: int, hop: int, num_frames: int, mode: str) -> np.ndarray:
    """The AVID front end from its description, one window at a time, in float64."""
    padded = np.pad(waveform.double().numpy(), window_length // 2, mode=mode)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)
    rows = []
    for t in range(num_frames):
        power = np.abs(np.fft.rfft(padded[t * hop : t * hop + window_length] * window)) ** 2
        rows.append([power[0], *((power[k] + power[k + 1]) / 2 for k in range(1, len(power), 2))])
    decibels = 10 * np.log10(np.maximum(rows, 1e-10))
    return np.maximum(decibels, decibels.max() - 100)


@pytest.mark.parametrize("padding", ["constant", "reflect"])
@pytest.mark.parametrize(
    ("seconds", "window_length", "hop_seconds", "shape"),
    [(1.0, 1024, 0.010, (100, 257)), (2.0, 1024, 0.010, (200, 257)), (2.0, 512, 0.020, (100, 129))],
)
def test_log_spectrogram_matches_numpy(
    seconds: float, window_length: int, hop_seconds: float, shape: tuple[int, int], padding: str
) -> None:
    waveform = make_waveform(seconds)
    output = LogSpectrogram(window_length=window_length, hop_seconds=hop_seconds, padding=padding)(waveform)
    assert output.shape == (2, 1, *shape)
    assert output.is_contiguous()
    for b in range(2):
        expected = by_numpy(waveform[b], window_length, round(hop_seconds * 24_000), shape[0], padding)
        np.testing.assert_allclose(output[b, 0].numpy(), expected, atol=0.05)  # float32, 100 dB under the peak


def test_padding_defaults_to_zeros_and_matters_only_at_the_ends() -> None:
    waveform = 0.1 * torch.randn(2, 24_000, generator=torch.Generator().manual_seed(4))
    default, zeros, mirror = (
        LogSpectrogram(**options)(waveform) for options in ({}, {"padding": "constant"}, {"padding": "reflect"})
    )
    assert torch.equal(default, zeros)
    assert LogSpectrogram().padding == LogMel().padding == "constant"
    differs = (zeros - mirror).abs().amax(dim=(0, 1, 3)) > 1e-6
    assert differs.nonzero().flatten().tolist() == [0, 1, 2, 98, 99]  # 512 samples: 2.13 hops


def test_tone_peaks_in_its_bin() -> None:
    time = torch.arange(24_000) / 24_000
    tone = torch.sin(2 * math.pi * 1500.0 * time)[None]  # FFT bin 64 of 23.4375 Hz: pair 63 + 64, bin 32
    assert (LogSpectrogram()(tone)[0, 0, 5:95].argmax(dim=1) == 32).all()


def test_values_lie_within_100_db_of_each_clips_own_maximum() -> None:
    tone = torch.sin(2 * math.pi * 1500.0 * torch.arange(24_000) / 24_000)
    pair = torch.stack([tone, 1e-3 * tone])
    output = LogSpectrogram()(pair)
    peak = output.amax(dim=(1, 2, 3))
    torch.testing.assert_close(peak[0] - peak[1], torch.tensor(60.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(output[0].amin(), peak[0] - 100, atol=1e-3, rtol=0)
    torch.testing.assert_close(LogSpectrogram()(pair[1:]), output[1:])


@pytest.mark.parametrize("front_end", [LogSpectrogram(), LogMel()])
def test_silence_is_finite(front_end: object) -> None:
    output = front_end(torch.zeros(2, 24_000))
    torch.testing.assert_close(output, torch.full_like(output, -100.0))


@pytest.mark.parametrize(("num_mels", "window_length", "padding"), [(64, 1024, "constant"), (40, 512, "reflect")])
def test_log_mel_matches_torchaudio(num_mels: int, window_length: int, padding: str) -> None:
    waveform = make_waveform(1.0)
    mel = torchaudio.transforms.MelSpectrogram(
        24_000, n_fft=window_length, hop_length=240, n_mels=num_mels, pad_mode=padding
    )(waveform)[..., :100]
    expected = torch.stack([torchaudio.functional.amplitude_to_DB(m[None], 10.0, 1e-10, 0.0, 100.0)[0] for m in mel])
    output = LogMel(num_mels=num_mels, window_length=window_length, padding=padding)(waveform)
    assert output.shape == (2, 1, 100, num_mels)
    torch.testing.assert_close(output[:, 0], expected.transpose(1, 2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("module", [LogSpectrogram(), LogMel(16_000, num_mels=40, window_length=512)])
def test_modules_tell_their_shape_and_add_nothing_to_the_weights(module: torch.nn.Module) -> None:
    waveform = make_waveform(0.777, sample_rate_hz=module.sample_rate_hz)
    assert module(waveform).shape == (2, 1, module.num_frames(waveform.shape[1]), module.num_bins)
    assert module.state_dict() == {}


def test_autocast_does_not_coarsen_the_spectrogram() -> None:
    waveform = make_waveform(0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = LogMel()(waveform)
    assert torch.equal(coarse, LogMel()(waveform))


def test_bad_waveforms_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B, S\) float .*divide int16"):
        LogSpectrogram()(torch.zeros(2, 24_000, dtype=torch.int16))
    with pytest.raises(ValueError, match=r"got \(24000,\)"):
        LogSpectrogram()(torch.zeros(24_000))
    with pytest.raises(ValueError, match=r"\(239 samples\) must have at least 240"):
        LogSpectrogram()(torch.zeros(1, 239))
    with pytest.raises(ValueError, match=r"at least 513 with padding=\"reflect\""):
        LogSpectrogram(padding="reflect")(torch.zeros(1, 512))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_mels": 200, "window_length": 512}, "mel filters are empty .* fewer num_mels"),
        ({"max_hz": 13_000.0}, "max_hz"),
        ({"window_length": 510}, "multiple of 4"),
        ({"padding": "edge"}, "padding"),
        ({"hop_seconds": 1e-6}, r"hop_seconds \(1e-06\) must be >= 0.001"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogMel(**options)
