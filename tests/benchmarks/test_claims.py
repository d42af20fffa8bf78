"""A small run of the search for CMA's and Robust-xID's claims: what the objectives found, and the tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from .conftest import shrunk


@pytest.fixture
def bench(benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = benchmark_script("claims")
    objectives = benchmark_script("objectives")
    monkeypatch.setattr(module, "SIZES", module.Sizes(side=32, num_frames=3, width=4))
    monkeypatch.setattr(module, "EPOCHS", 2)
    monkeypatch.setattr(objectives, "BATCH", 8)
    small = {name: dict(options) for name, options in objectives.METHODS.items()}
    for options in small.values():
        options |= {name: 4 for name in ("num_negatives", "num_positives", "positive_negatives") if name in options}
    monkeypatch.setattr(objectives, "METHODS", small)
    for name in ("train", "measure", "settings"):
        monkeypatch.setattr(module, name, getattr(objectives, name))
    return module


def test_what_an_objective_found_is_measured(bench: ModuleType, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    splits = shrunk(bench.splits(bench.FAULTS["faulty"]), 64)
    sampling = bench.build_sampling(bench.settings({"name": "info_nce"}, 1e-3, 1, 0, bench.SIZES))
    world = bench.shapes(tmp_path / "clips", {"train": splits["train"]}, 0, sampling)
    found = {
        name: bench.inside(bench.train(name, world, 1e-3, 2, 0, bench.SIZES), world)
        for name in (bench.AVID, bench.CMA_NAME, bench.ROBUST)
    }
    assert found[bench.AVID] == {}
    assert 0 <= found[bench.CMA_NAME]["neighbors"] <= 1
    assert 0.05 < found[bench.CMA_NAME]["neighbors_chance"] < 0.25
    assert 0 <= found[bench.ROBUST]["weights"] <= 1


def test_each_world_has_its_table(bench: ModuleType) -> None:
    shared = dict.fromkeys([*bench.COLUMNS, "object_chance", "action_chance", "R@10_chance"], 0.5)
    counts = dict.fromkeys(("n_fit", "n_test", "gallery", "pointing_n", "pointing_random_object"), 100)
    rows = [{"world": "faulty", "method": method, "seed": 0, **shared, **counts} for method in bench.METHODS]
    rows[-1] |= {"weights": 0.75, "object_video": 0.625}
    text = bench.table(rows)
    assert f"| {bench.ROBUST} − {bench.AVID} | +0.125 (1 of 1) |" in text
    assert "| 0.750 |" in text
    assert "| faulty | seeds |" in text
    assert "| clean | seeds |" not in text
