from typing import Any

import pytest
import torch
import torchaudio.functional

from avssl.core.draws import splitmix64, text_key
from avssl.transforms import WaveformAugment
from avssl.transforms import waveform_augment as module
from avssl.transforms.loudness import add_at_ratio
from avssl.transforms.waveform_augment import replace_clips, roll_each

RATE = 8000
EACH: dict[str, dict[str, Any]] = {
    "pitch": {"max_semitones": 3.0},
    "shift": {"max_shift_seconds": 0.2},
    "filter": {"filter_probability": 1.0},
    "mix": {"mix_probability": 1.0},
    "noise": {"noise_probability": 1.0},
}


def make_keys(count: int) -> torch.Tensor:
    return splitmix64(torch.arange(count) + text_key("waveform tests"))


def make_waveform(count: int, num_samples: int = 2000) -> torch.Tensor:
    return 0.1 * torch.randn(count, num_samples, generator=torch.Generator().manual_seed(5))


def test_nothing_is_used_by_default() -> None:
    assert not WaveformAugment(RATE).is_used
    assert all(WaveformAugment(RATE, **options).is_used for options in EACH.values())


@pytest.mark.parametrize("options", EACH.values(), ids=EACH)
def test_draws_depend_on_key_and_view_and_touch_no_generator(options: dict[str, Any]) -> None:
    augment, waveform, key = WaveformAugment(RATE, **options), make_waveform(6), make_keys(6)
    before = torch.get_rng_state()
    first = augment(waveform, key)
    assert first.shape == waveform.shape
    assert first.dtype == torch.float32
    assert (first != waveform).any(dim=1).all()  # each clip by its own draw
    assert torch.equal(augment(waveform, key), first)
    assert not torch.equal(augment(waveform, key, view=1), first)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(augment(waveform[order], key[order]), first[order], atol=1e-6, rtol=0)
    assert torch.equal(torch.get_rng_state(), before)
    if "mix_probability" not in options:  # the clips of the batch are what it mixes
        torch.testing.assert_close(augment(waveform[[4, 1]], key[[4, 1]]), first[[4, 1]], atol=1e-6, rtol=0)


def test_parts_of_a_batch_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    augment = WaveformAugment(RATE, **{name: value for each in EACH.values() for name, value in each.items()})
    waveform, key = make_waveform(5), make_keys(5)
    whole = augment(waveform, key)
    monkeypatch.setitem(module._CHUNK_SAMPLES, "cpu", 4000)  # parts of 2, 2 and 1
    torch.testing.assert_close(augment(waveform, key), whole, atol=1e-6, rtol=0)


def test_ratio_matches_torchaudio_with_a_ratio_for_each_clip() -> None:
    waveform, other, ratio_db = make_waveform(4), torch.rand(4, 2000), torch.tensor([-5.0, 0.0, 7.0, 20.0])
    expected = torchaudio.functional.add_noise(waveform, other, ratio_db)
    torch.testing.assert_close(add_at_ratio(waveform, other, ratio_db[:, None]), expected, atol=1e-5, rtol=0)


def test_silence_stays_silent_and_adds_nothing() -> None:
    waveform, silence = make_waveform(2), torch.zeros(2, 2000)
    assert torch.equal(add_at_ratio(waveform, silence, 0.0), waveform)
    assert torch.equal(add_at_ratio(silence, waveform, 0.0), silence)
    augment = WaveformAugment(RATE, **{name: value for each in EACH.values() for name, value in each.items()})
    assert torch.isfinite(augment(silence, make_keys(2))).all()


def test_noise_and_other_audio_come_at_the_ratio_that_was_drawn() -> None:
    for name in ("mix", "noise"):
        options = {**EACH[name], f"{name}_snr_db": (3.0, 3.0)}
        waveform = make_waveform(4)
        added = WaveformAugment(RATE, **options)(waveform, make_keys(4)) - waveform
        ratio_db = 10 * (waveform.square().mean(dim=1) / added.square().mean(dim=1)).log10()
        torch.testing.assert_close(ratio_db, torch.full((4,), 3.0), atol=1e-3, rtol=0)


def test_probability_is_the_share_of_clips() -> None:
    waveform, key = make_waveform(400, 300), make_keys(400)
    for name in ("filter", "mix", "noise"):
        output = WaveformAugment(RATE, **{f"{name}_probability": 0.25})(waveform, key)
        assert 0.18 < (output != waveform).any(dim=1).float().mean() < 0.32


def test_each_clip_is_rolled_by_its_own_shift() -> None:
    waveform, shift = make_waveform(3), torch.tensor([0, -7, 1999])
    expected = torch.stack([clip.roll(int(by)) for clip, by in zip(waveform, shift, strict=True)])
    assert torch.equal(roll_each(waveform, shift), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix_snr_db": (5.0, 1.0)}, r"mix_snr_db \(5, 1\) must be"),
        ({"filter_probability": 0.5, "low_pass_hz": (100.0, 4000.0)}, "low_pass_hz ends at 4000 Hz, but audio at 8000"),
        ({"noise_probability": 1.5}, r"noise_probability \(1.5\)"),
        ({"max_semitones": 30.0}, r"max_semitones \(30.0\)"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WaveformAugment(RATE, **options)


def test_a_waveform_too_short_for_a_pitch_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="max_semitones needs over 256 samples, got 200"):
        WaveformAugment(RATE, max_semitones=1.0)(torch.zeros(1, 200), make_keys(1))


def test_clips_that_are_drawn_are_replaced_and_alone_computed_on_a_cpu() -> None:
    waveform, is_drawn = make_waveform(4), torch.tensor([True, False, False, True])
    seen: list[int] = []

    def change(clips: torch.Tensor | slice) -> torch.Tensor:
        seen.append(len(waveform[clips]))
        return waveform[clips] + 1

    expected = torch.where(is_drawn[:, None], waveform + 1, waveform)
    assert torch.equal(replace_clips(waveform, is_drawn, change), expected)
    assert replace_clips(waveform, torch.zeros(4, dtype=torch.bool), change) is waveform
    assert seen == [2]
    on_device = waveform.to("meta")  # computes all, without a look at what is drawn
    assert replace_clips(on_device, is_drawn.to("meta"), lambda clips: on_device[clips]).shape == waveform.shape
