import pytest
import torch
import torchaudio.compliance.kaldi as kaldi

from avssl.transforms import KaldiFbank


def waves(seconds: float, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(count, round(16_000 * seconds), generator=generator)
    return noise * torch.tensor([0.3, 1e-3, 0.0])[:count, None] + 0.01


@pytest.mark.parametrize(("num_mels", "seconds"), [(128, 0.5), (40, 1.0013)])
def test_every_clip_equals_torchaudios_kaldi_fbank(num_mels, seconds):
    waveform = waves(seconds)
    output = KaldiFbank(num_mels=num_mels)(waveform)
    for row, clip in zip(output, waveform, strict=True):
        expected = kaldi.fbank(
            clip[None] - clip.mean(),
            htk_compat=True,
            sample_frequency=16_000,
            use_energy=False,
            window_type="hanning",
            num_mel_bins=num_mels,
            dither=0.0,
            frame_shift=10,
        )
        torch.testing.assert_close(row[0], expected, rtol=1e-4, atol=1e-4)
    assert KaldiFbank(num_mels=num_mels).num_frames(waveform.shape[1]) == output.shape[2]


def test_columns_are_filled_with_zeros_or_cut():
    waveform = waves(0.5)
    plain = KaldiFbank()(waveform)
    assert plain.shape == (3, 1, 48, 128)
    longer, shorter = KaldiFbank(num_columns=64)(waveform), KaldiFbank(num_columns=16)(waveform)
    assert torch.equal(longer[:, :, :48], plain)
    assert not longer[:, :, 48:].any()
    assert torch.equal(shorter, plain[:, :, :16])
    assert KaldiFbank(num_columns=64).num_frames(8000) == 64


def test_waveforms_that_do_not_fit_raise():
    with pytest.raises(ValueError, match=r"at least 400, one window of 25 ms"):
        KaldiFbank()(torch.zeros(1, 399))
    with pytest.raises(ValueError, match=r"must be \(B, S\) float"):
        KaldiFbank()(torch.zeros(1, 800, dtype=torch.int16))
