"""The rows of the comparison of masked ratios fit their settings, and a row fills the table."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from avssl.training.build import check_options


@pytest.fixture
def bench(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("masked")


def test_every_row_has_settings_that_fit(bench: ModuleType) -> None:
    for objective in bench.RUNS.values():
        config = bench.settings(objective, 0)
        check_options(config)
        assert config.model.video.options()["patch"] == config.model.audio.options()["patch"] == 8


def test_rows_of_one_length_share_a_table(bench: ModuleType) -> None:
    numbers = dict.fromkeys([*bench.COLUMNS, "object_chance", "action_chance", "R@10_chance", "R@10_shuffled"], 0.5)
    about = {"seed": 0, "steps": 30, "step_seconds": 0.25, "n_fit": 9, "n_test": 8, "gallery": 7.0}
    rows = [
        {"name": name, "patch": 8, "train_seconds": seconds, **numbers, **about}
        for name, seconds in (("CAV-MAE, 0.75", 60.0), (bench.UNTRAINED, 60.0), ("InfoNCE", 5.0))
    ]
    text = bench.table(rows, 8, 60.0)
    assert "| CAV-MAE, 0.75 | 1 | 0.250 | 30 | 0.500 |" in text
    assert "| random-init |" in text
    assert "InfoNCE" not in text
    assert bench.table(rows, 16, 60.0) == "no row yet"
