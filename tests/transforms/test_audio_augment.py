import pytest
import torch

from avssl.core.draws import splitmix64, text_key
from avssl.transforms import RandomGain, SpectrogramMask
from avssl.transforms.audio_augment import random_spans


def make_keys(count: int) -> torch.Tensor:
    return splitmix64(torch.arange(count) + text_key("audio augment tests"))


def test_gain_scales_each_clip_by_its_own_factor_in_range() -> None:
    factor = RandomGain()(torch.ones(5000, 2), make_keys(5000))
    assert torch.equal(factor[:, 0], factor[:, 1])
    assert 0.9 <= factor.min() < 0.901
    assert 1.099 < factor.max() <= 1.1
    assert factor.dtype == torch.float32


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.1, 0.9)])
def test_gain_refuses_an_empty_range(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="gain"):
        RandomGain((low, high))


def test_spans_have_uniform_widths_and_stay_inside() -> None:
    spans = random_spans(make_keys(30_000), "test", length=20, max_width=4, count=1)
    widths = spans.sum(dim=1)
    counts = torch.bincount(widths, minlength=5)
    assert len(counts) == 5
    assert (counts.float() / 30_000 - 0.2).abs().max() < 0.01
    edges = spans.int().diff(dim=1, prepend=torch.zeros(30_000, 1, dtype=torch.int)).clamp(min=0).sum(dim=1)
    assert (edges == (widths > 0)).all()  # one run each
    assert spans.any(dim=0).all()  # every place can be masked, the first and the last too
    starts = spans[widths == 4].int().argmax(dim=1)
    assert torch.bincount(starts).shape == (17,)


def test_mask_zeroes_whole_columns_and_rows_only() -> None:
    spectrogram = torch.rand(64, 1, 30, 25) + 1
    output = SpectrogramMask(8, 6, num_time_masks=2, num_freq_masks=1)(spectrogram, make_keys(64))
    masked = output == 0
    assert torch.equal(output[~masked], spectrogram[~masked])
    columns, rows = masked.all(dim=3), masked.all(dim=2)
    assert torch.equal(masked, columns[..., None] | rows[..., None, :])
    assert 8 < columns.sum(dim=2).max() <= 16  # two masks of up to 8
    assert rows.sum(dim=2).max() == 6
    assert (spectrogram > 0).all()  # the input is left as it was


def test_mask_of_width_or_number_zero_changes_nothing() -> None:
    spectrogram = torch.rand(4, 1, 30, 25)
    assert torch.equal(SpectrogramMask()(spectrogram, make_keys(4)), spectrogram)
    assert torch.equal(SpectrogramMask(5, 5, 0, 0)(spectrogram, make_keys(4)), spectrogram)


@pytest.mark.parametrize("augment", [RandomGain(), SpectrogramMask(10, 10)])
def test_draws_depend_on_key_and_view_alone(augment: torch.nn.Module) -> None:
    value = torch.rand(6, 48) if isinstance(augment, RandomGain) else torch.rand(6, 1, 30, 25)
    key = make_keys(6)
    first = augment(value, key)
    assert torch.equal(augment(value[[4, 1]], key[[4, 1]]), first[[4, 1]])
    assert not torch.equal(augment(value, key, view=1), first)


def test_masks_are_checked() -> None:
    with pytest.raises(ValueError, match=">= 0"):
        SpectrogramMask(-1)
    with pytest.raises(ValueError, match=r"max_freq_width \(26\) must not exceed the spectrogram's 25"):
        SpectrogramMask(0, 26)(torch.rand(4, 1, 30, 25), make_keys(4))
