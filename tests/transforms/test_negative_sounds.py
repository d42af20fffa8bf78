import math

import pytest
import torch

from avssl.core.batch import Batch, BatchIndex
from avssl.core.draws import clip_key
from avssl.transforms import (
    ClipTransform,
    LogMel,
    LogSpectrogram,
    NegativeSounds,
    Standardize,
    VideoAugment,
    VideoEval,
)
from avssl.transforms.negative_sounds import HIGHEST_DB, LOWEST_DB, colored_noise

KEYS = clip_key(0, 0, torch.arange(64) * 7919)


def test_half_are_silence_and_half_noise_and_each_noise_is_another() -> None:
    sounds = NegativeSounds(8)(KEYS[:6], 40_000)
    assert (sounds.shape, sounds.dtype) == ((8, 40_000), torch.float32)
    assert not sounds[0::2].any()
    assert sounds.abs().max() <= 1
    correlation = torch.corrcoef(sounds[1::2]) - torch.eye(4)
    assert correlation.abs().max() < 0.1


def test_they_are_functions_of_the_keys_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = NegativeSounds(4)(KEYS[:8], 500)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(NegativeSounds(4)(KEYS[:8], 500), first)
    assert not torch.isclose(NegativeSounds(4)(KEYS[8:16], 500), first)[1::2].any(dim=1).all()


@pytest.mark.parametrize(("count", "num_clips"), [(2, 4), (4, 4), (4, 7), (12, 3), (10, 1)])
def test_two_ranks_draw_what_one_process_draws(count: int, num_clips: int) -> None:
    keys = KEYS[: 2 * num_clips]
    whole = NegativeSounds(2 * count)(keys, 300)
    ranks = [NegativeSounds(count)(part, 300) for part in keys.chunk(2)]
    torch.testing.assert_close(torch.cat(ranks), whole, rtol=0, atol=1e-6)
    assert len(whole[1::2].unique(dim=0)) == count


def test_colors_fall_by_0_3_and_6_decibels_an_octave() -> None:
    noise = colored_noise(KEYS, 2**14)  # flat below 16 cycles in the window
    power = torch.fft.rfft(noise.double()).abs().square()
    octaves = torch.stack([power[:, 2**n : 2 ** (n + 1)].mean(dim=1).log10() * 10 for n in range(6, 13)])
    slopes = ((octaves[-1] - octaves[0]) / 6).tolist()
    found = [min((0, -3.01, -6.02), key=lambda color: abs(color - slope)) for slope in slopes]
    assert slopes == pytest.approx(found, abs=0.6)
    assert {found.count(color) > 10 for color in (0, -3.01, -6.02)} == {True}
    flat = [power[:, n : 2 * n].mean(dim=1).log10() * 10 for n in (4, 8)]
    assert (flat[0] - flat[1]).mean().abs() < 1


def test_levels_are_uniform_in_decibels() -> None:
    level = colored_noise(KEYS, 2000).square().mean(dim=1).log10() * 10
    assert LOWEST_DB <= level.min() < LOWEST_DB + 5
    assert HIGHEST_DB - 5 < level.max() <= HIGHEST_DB + 1e-4
    assert level.mean().item() == pytest.approx((LOWEST_DB + HIGHEST_DB) / 2, abs=5)


@pytest.mark.parametrize("count", [-2, 0, 3])
def test_odd_numbers_and_none_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"negative_sounds \({count}\) must be even and above 0"):
        NegativeSounds(count)


def _batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    video = torch.randint(0, 256, (4, 2, 3, 16, 16), dtype=torch.uint8, generator=generator)
    audio = 0.1 * torch.randn(4, 4800, generator=generator)
    rows = torch.arange(4)
    return Batch(video, audio, BatchIndex(rows, rows, KEYS[:4]), torch.full((4, 2), 16))


def _transform(spectrogram: LogMel | LogSpectrogram, negative_sounds: int, num_views: int = 1) -> ClipTransform:
    standardize = Standardize(spectrogram.num_bins)
    # As of a corpus in which nothing ever sounds above some bin: its spread is none.
    std = torch.full_like(standardize.std, 12.0).index_fill(0, torch.tensor([0]), 0.0)
    standardize.set_statistics(torch.full_like(standardize.mean, -40.0), std)
    return ClipTransform(
        VideoAugment(8),
        VideoEval(8),
        spectrogram,
        standardize=standardize,
        num_views=num_views,
        negative_sounds=negative_sounds,
    )


@pytest.mark.parametrize("spectrogram", [LogMel(num_mels=16), LogSpectrogram(window_length=512)])
def test_transform_sends_them_through_the_spectrogram_of_the_clips(spectrogram: LogMel | LogSpectrogram) -> None:
    transform, batch = _transform(spectrogram, 4, num_views=2), _batch()
    output = transform(batch)
    assert output.negative_audio is not None
    assert output.negative_audio.shape == (4, *output.audio.shape[1:])
    assert output.negative_audio.isfinite().all()
    expected = transform.audio_input(NegativeSounds(4)(batch.index.key, 4800))
    assert torch.equal(output.negative_audio, expected)
    silence = (-100 + 40) / (12 + 1e-5)
    assert output.negative_audio[0::2, ..., 1:].unique().item() == pytest.approx(silence)
    assert math.isclose(len(output.audio), 2 * len(batch))


def test_clips_are_the_same_bits_with_and_without_them() -> None:
    with_sounds, without = (_transform(LogMel(num_mels=16), count)(_batch()) for count in (2, 0))
    assert torch.equal(with_sounds.audio, without.audio)
    assert torch.equal(with_sounds.video, without.video)
    assert without.negative_audio is None


def test_there_are_none_in_evaluation() -> None:
    assert _transform(LogMel(num_mels=16), 2).eval()(_batch()).negative_audio is None


def test_batch_refuses_sounds_of_another_shape() -> None:
    output = _transform(LogMel(num_mels=16), 2)(_batch())
    with pytest.raises(ValueError, match=r"negative_audio must be \(M, 1, 20, 16\) as audio, got \(2, 1, 19, 16\)"):
        Batch(output.video, output.audio, output.index, negative_audio=output.negative_audio[:, :, 1:])
    raw = _batch()
    with pytest.raises(ValueError, match="a raw batch has no negative_audio: the transform makes it"):
        Batch(raw.video, raw.audio, raw.index, raw.valid_hw, negative_audio=raw.audio)
