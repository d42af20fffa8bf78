"""The benchmark of augmentation: shortcuts with known answers, and its tables."""

import pytest
import torch


def test_shortcuts_find_equal_views_and_miss_views_without_a_trace(benchmark_script) -> None:
    shortcuts = benchmark_script("augmentation_shortcuts")
    generator = torch.Generator().manual_seed(0)
    first, other = (torch.rand(32, 1, 12, 5, generator=generator) for _ in range(2))
    shifted = torch.stack([clip.roll(number % 11 + 1, dims=1) for number, clip in enumerate(first)])
    for name in ("found_by_spectrogram", "found_by_mean_spectrum", "found_by_aligned_spectrogram"):
        assert getattr(shortcuts, name)(first, first.clone()) == 1
        assert getattr(shortcuts, name)(first, other) < 0.3
    assert shortcuts.found_by_spectrogram(first, shifted) < 0.5
    assert shortcuts.found_by_mean_spectrum(first, shifted) == 1
    assert shortcuts.found_by_aligned_spectrogram(first, shifted) == 1


def test_color_histograms_count_colors_and_ignore_places(benchmark_script) -> None:
    shortcuts = benchmark_script("augmentation_shortcuts")
    video = torch.rand(6, 3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    moved = video.flip(-1)
    histograms = [shortcuts.color_histograms((v - 0.5) / 0.25, mean, std) for v in (video, moved)]
    torch.testing.assert_close(histograms[0].sum(dim=1), torch.ones(6))
    assert torch.equal(*histograms)
    assert shortcuts.found_by_histogram(*histograms) == 1
    same = histograms[0][:1].expand(6, -1)
    assert shortcuts.found_by_histogram(same, same) == 0  # ties are misses


def test_pairs_are_symmetric_with_single_operations_on_the_diagonal(benchmark_script) -> None:
    module = benchmark_script("augmentation_tables")
    fixed = {"modality": "audio", "chance": 0.1, "n_probe": 9, "n_knn": 20, "n_test": 400, "steps": 3}
    values = {"none": 0.2, "mix": 0.5, "mask": 0.4, "mix+mask": 0.7}
    rows = [
        {**fixed, "views": views, "seed": seed, "probe": value + 0.1 * seed, "knn": value}
        for views, value in values.items()
        for seed in (0, 1)
    ]
    assert module.pair_matrix(rows, "audio", "knn").tolist() == [[0.5, 0.7], [0.7, 0.4]]
    assert module.pair_matrix(rows, "audio", "probe")[0, 0] == pytest.approx(0.55)
    printed = module.tables(rows)
    assert "| mix | 0.550 | 0.750 |" in printed
    assert (
        "on 400 clips, chance 0.100; the probe is fitted on 9 clips, the neighbors are of 20; audio 3 steps" in printed
    )
    assert "up to ± 0.049" in printed
    assert module.tables([]) == "no row yet"
