import math

import torch
import torchaudio.functional

from avssl.transforms.pitch import HOP, WINDOW, _stretch, pitch_shift, read_at_speed

RATE = 8000


def test_pitch_shift_matches_torchaudio_with_a_shift_for_each_clip() -> None:
    waveform = 0.1 * torch.randn(4, 6000, generator=torch.Generator().manual_seed(3))
    waveform = torchaudio.functional.lowpass_biquad(waveform, RATE, 1000.0)
    semitones = torch.tensor([-4.0, -1.37, 0.5, 3.2])
    output = pitch_shift(waveform, semitones, 4.0, RATE)
    for clip, shift, shifted in zip(waveform, semitones.tolist(), output, strict=True):
        expected = torchaudio.functional.pitch_shift(clip, RATE, shift)
        # The last windows differ: there this batch holds the silence after the shorter clips.
        torch.testing.assert_close(shifted[: -2 * WINDOW], expected[: -2 * WINDOW], atol=5e-4, rtol=0)


def test_an_octave_doubles_the_frequency_of_a_tone() -> None:
    tone = torch.sin(2 * math.pi * 440 * torch.arange(RATE) / RATE)[None]
    spectrum = torch.fft.rfft(pitch_shift(tone, torch.tensor([12.0]), 12.0, RATE)).abs()
    assert abs(int(spectrum.argmax()) - 880) <= 1


def test_shift_of_zero_keeps_the_samples() -> None:
    waveform = torch.randn(2, 1000)
    assert torch.equal(pitch_shift(waveform, torch.zeros(2), 2.0, RATE), waveform)


def test_reading_at_a_speed_matches_torchaudios_resampling() -> None:
    waveform = torch.randn(2, 2000, generator=torch.Generator().manual_seed(4))
    speed = torch.tensor([1.25, 0.8], dtype=torch.float64)
    output = read_at_speed(waveform, speed, 1.25, 1600)
    for clip, (original, new), found in zip(waveform, [(5, 4), (4, 5)], output, strict=True):
        expected = torchaudio.functional.resample(clip, original, new)[:1600]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_stretching_matches_torchaudio_in_float64() -> None:
    waveform = torch.randn(2, 5000, generator=torch.Generator().manual_seed(6))
    waveform[1, 1000:3000] = 0.0  # columns of no phase
    rate, window = torch.tensor([0.93, 1.17], dtype=torch.float64), torch.hann_window(WINDOW, dtype=torch.float64)
    output = _stretch(waveform, rate, 5500)
    spectrum = torch.stft(waveform.double(), WINDOW, HOP, window=window, return_complex=True)
    advance = torch.linspace(0, math.pi * HOP, WINDOW // 2 + 1, dtype=torch.float64)[:, None]
    for clip, speed, stretched in zip(spectrum, rate.tolist(), output, strict=True):
        expected = torch.istft(torchaudio.functional.phase_vocoder(clip, speed, advance), WINDOW, HOP, window=window)
        length = min(len(expected), 5500) - WINDOW  # the window at the end is incomplete there
        torch.testing.assert_close(stretched[:length].double(), expected[:length], atol=3e-5, rtol=0)
