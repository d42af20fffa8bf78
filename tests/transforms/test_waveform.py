import pytest
import torch

from avssl.transforms import Waveform


def test_each_clip_has_zero_mean_and_unit_variance_and_silence_stays_silent():
    waveform = torch.randn(3, 1600, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.1
    waveform[2] = 0
    output = Waveform()(waveform)
    assert output.shape == (3, 1, 1600, 1)
    clip = waveform[0].double().numpy()
    expected = torch.from_numpy((clip - clip.mean()) / (clip.var() + 1e-7) ** 0.5).float()
    torch.testing.assert_close(output[0, 0, :, 0], expected)
    assert not output[2].any()
    assert torch.equal(Waveform(normalize=False)(waveform)[:, 0, :, 0], waveform)
    assert (Waveform().num_bins, Waveform().num_frames(1600)) == (1, 1600)


def test_other_layouts_raise():
    with pytest.raises(ValueError, match=r"must be \(B, S\) float"):
        Waveform()(torch.zeros(1600))
