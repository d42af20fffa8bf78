"""A small run of the localization benchmark: its rows, its measures on hand-made maps, and its tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from .conftest import shrunk


@pytest.fixture
def localization(benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = benchmark_script("localization")
    few = {name: replace(method, epochs=1) for name, method in module.METHODS.items()}
    small = {"SPLITS": shrunk(module.SPLITS, 60), "BATCH": 8, "METHODS": few}
    small |= {"UNSEEN": {"several": 24, "pairs": 24}, "PRECISION": benchmark_script("objectives").Precision()}
    for name, value in small.items():
        monkeypatch.setattr(module, name, value)
    return module


@pytest.fixture
def measures(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("localization_measures")


def test_rows_are_made_once(localization: ModuleType, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    default = "pooled + best cell (default)"
    sampling = localization.build_sampling(localization.settings(localization.METHODS[default], 0))
    world = localization.shapes(tmp_path / "clips", localization.SPLITS, 2, sampling)
    two = localization.two_sources(world, localization.SPLITS["two"], 2, sampling)
    file = tmp_path / "rows.jsonl"

    bench = localization.Bench(world, two, file, tmp_path / "models", until=1e12)
    names = ("baselines", localization.UNTRAINED, default)
    unseen = localization.UNSEEN_CLIPS + localization.LONG
    for name in (*names, unseen):
        localization.run(bench, (name, 0))
    rows = localization.read_rows(file)
    assert localization.done(rows) == {(name, 0) for name in (*names, unseen)}
    assert (unseen, 1) in localization.jobs([])
    assert (default, 0) not in [job for job in localization.jobs([]) if job not in localization.done(rows)]
    assert (default, 1) in localization.jobs([])
    trained = rows[-2]
    assert [(of["frame_size"], of["smoothed"]) for of in rows[-1]["sizes"]][:3] == [(96, 1), (96, 2), (128, 1)]
    assert 0 <= trained["slavc_ap"] <= 1
    assert 0 <= trained["two_both"] <= trained["two_each"] <= 1
    table = localization.tables(rows)
    assert "| center blob | | |" in table
    assert f"| {localization.LONG} | 96 | 2 | 1 | " in table
    assert f"n: pointing, cIoU, AUC {rows[0]['n']} clips" in table


def test_two_peaks_are_apart(measures: ModuleType) -> None:
    maps = torch.zeros(1, 10, 10)
    maps[0, 2, 2], maps[0, 2, 3], maps[0, 7, 8] = 3.0, 2.0, 1.0
    assert measures.two_peaks(maps)[0] == pytest.approx(torch.tensor([[0.25, 0.25], [0.75, 0.85]]))


def test_hits_tell_which_point_lies_on_which_object(measures: ModuleType) -> None:
    masks = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    masks[0, 0, 0, 0] = masks[0, 1, 3, 3] = True
    places = torch.tensor([[[0.125, 0.125], [0.875, 0.875], [0.125, 0.875]]])
    assert measures.hits(places, masks)[0].tolist() == [[True, False], [False, True], [False, False]]


def test_the_mean_of_others_excludes_the_own_truth(measures: ModuleType) -> None:
    truth = torch.zeros(4, 2, 2)
    truth[0, 0, 0] = truth[1, 0, 1] = truth[2, 1, 0] = truth[3, 1, 1] = 1
    means = measures.mean_of_others(truth)
    assert (means * truth).sum() == 0
    assert means[0].tolist() == [[0, 0], [0.5, 0.5]]


def test_confidence_gives_the_average_precision(measures: ModuleType) -> None:
    high, low = torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.2])
    assert measures.plain_ap(high, low) == 1
    assert measures.plain_ap(low, high) == pytest.approx((1 / 3 + 2 / 4) / 2)
