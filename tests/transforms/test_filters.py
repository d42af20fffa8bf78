import torch
import torchaudio.functional

from avssl.transforms.filters import KINDS, filter_waveform

RATE = 16_000
REFERENCES = {
    "low": torchaudio.functional.lowpass_biquad,
    "high": torchaudio.functional.highpass_biquad,
    "band": torchaudio.functional.bandpass_biquad,
}


def test_filters_match_torchaudio_with_a_kind_and_a_frequency_for_each_clip() -> None:
    waveform = 0.1 * torch.randn(9, 8000, generator=torch.Generator().manual_seed(2))
    kind, frequency_hz = torch.arange(9) % 3, torch.linspace(100, 6000, 9)
    output = filter_waveform(waveform, kind, frequency_hz, RATE, 100.0)
    for clip, name, frequency, filtered in zip(
        waveform, (KINDS[k] for k in kind), frequency_hz.tolist(), output, strict=True
    ):
        torch.testing.assert_close(filtered, REFERENCES[name](clip, RATE, frequency), atol=1e-5, rtol=0)


def test_silence_stays_silent() -> None:
    assert not filter_waveform(torch.zeros(3, 1000), torch.arange(3), torch.full((3,), 500.0), RATE, 100.0).any()
