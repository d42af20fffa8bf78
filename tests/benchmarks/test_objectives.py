"""A small run of the comparison of objectives: training, measures, resume and tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from .conftest import shrunk


@pytest.fixture
def bench(benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = benchmark_script("objectives")
    small = {"SPLITS": shrunk(module.SPLITS, 96), "SCENE": {"width": 32}, "EPOCHS": 2, "BATCH": 8}
    for name, value in small.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "PRECISION", module.Precision())
    objectives = {name: dict(options) for name, options in module.METHODS.items()}
    for options in objectives.values():
        for name in ("num_negatives", "num_positives", "positive_negatives"):
            options |= {name: 4} if name in options else {}
    monkeypatch.setattr(module, "METHODS", objectives)
    return module


@pytest.fixture
def world(bench: ModuleType, tmp_path: Path) -> Any:
    sampling = bench.build_sampling(bench.settings(bench.METHODS["InfoNCE"], 1e-3, 1, 0))
    return bench.shapes(tmp_path / "clips", bench.SPLITS, 0, sampling)


def rows_of(bench: ModuleType, method: str, stage: str, lr: float, seed: int, **numbers: float) -> dict[str, Any]:
    shared = dict.fromkeys([*bench.COLUMNS, "object_chance", "action_chance"], 0.5)
    counts = dict.fromkeys(("n_fit", "n_test", "gallery", "pointing_n", "epochs", "samples"), 100)
    baselines = dict.fromkeys(("R@10_chance", "R@10_shuffled", "pointing_random_object", "pointing_center"), 0.1)
    return {"stage": stage, "method": method, "lr": lr, "seed": seed, **shared, **counts, **baselines, **numbers}


def test_every_method_trains_and_is_measured(bench: ModuleType, world: Any) -> None:
    torch.set_num_threads(1)
    before = bench.train(bench.UNTRAINED, world, 0.0, 1, 0).model.state_dict()
    for method in bench.METHODS:
        after = bench.train(method, world, 1e-3, 2, 0).model.state_dict()
        moved = [not torch.equal(before[name], after[name]) for name in before if name.startswith("video_encoder")]
        assert all(moved), method


def test_a_row_holds_every_column_with_its_chance(bench: ModuleType, world: Any, tmp_path: Path) -> None:
    row = bench.run(world, tmp_path / "rows.jsonl", "final", bench.UNTRAINED, 0.0, 0)
    assert set(bench.COLUMNS) <= set(row)
    assert row["R@10_chance"] == pytest.approx(10 / 24)
    assert bench.read_rows(tmp_path / "rows.jsonl") == [row]
    assert bench.UNTRAINED in bench.table([row])


def test_learning_rates_are_chosen_on_validation_clips_and_done_rows_are_not_made_again(bench: ModuleType) -> None:
    slow, fast = bench.RATES
    rows = [
        rows_of(bench, "InfoNCE", "tune", slow, bench.TUNING_SEED, object_video=0.2),
        rows_of(bench, "InfoNCE", "tune", fast, bench.TUNING_SEED, object_video=0.4),
        rows_of(bench, "InfoNCE", "final", fast, 0),
    ]
    todo = [job for job in bench.missing(rows) if job[1] == "InfoNCE"]
    assert todo == [("final", "InfoNCE", fast, 1), ("final", "InfoNCE", fast, 2)]
    assert ("tune", "CMA", slow, bench.TUNING_SEED) in bench.missing(rows)
    assert not [job for job in bench.missing(rows) if job[:2] == ("final", "CMA")]


def test_the_table_compares_seed_by_seed(bench: ModuleType) -> None:
    better, worse = bench.COMPARISONS[0]
    rows = [rows_of(bench, better, "final", 1e-3, seed, object_video=0.5 + 0.1 * seed) for seed in (0, 1)]
    rows += [rows_of(bench, worse, "final", 1e-3, seed, object_video=0.5) for seed in (0, 1, 2)]
    text = bench.table(rows)
    assert f"| {better} − {worse} | +0.050 (1 of 2) |" in text
    assert f"| {better} | 2 | 0.001 | 0.550 ± 0.071 |" in text


def test_clips_are_rendered_once_and_other_clips_are_an_error(bench: ModuleType, world: Any, tmp_path: Path) -> None:
    sampling = bench.build_sampling(bench.settings(bench.METHODS["InfoNCE"], 1e-3, 1, 0))
    again = bench.shapes(tmp_path / "clips", bench.SPLITS, 0, sampling)
    assert np.array_equal(again.video, world.video)
    assert len(world.rows("single")) == 24
    assert set(world.num_objects[world.rows("single")]) == {1}
    with pytest.raises(ValueError, match="holds other clips"):
        bench.shapes(tmp_path / "clips", bench.SPLITS, 1, sampling)


def test_the_loader_continues_where_it_stopped(bench: ModuleType, world: Any) -> None:
    sampling = bench.build_sampling(bench.settings(bench.METHODS["InfoNCE"], 1e-3, 1, 0))
    loader = bench.MemoryLoader(world, world.rows("train"), 8, 0, sampling)
    stream = iter(loader)
    batches = [next(stream) for _ in range(14)]
    assert sorted(torch.cat([batch.index.row for batch in batches[:12]]).tolist()) == list(range(96))
    other = bench.MemoryLoader(world, world.rows("train"), 8, 0, sampling)
    other.load_state_dict({"step": 13})
    assert torch.equal(next(iter(other)).video, batches[13].video)


def test_costs_stand_beside_those_of_info_nce(
    world: Any, benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = benchmark_script("objective_costs")
    monkeypatch.setattr(costs, "PRECISION", costs.PRECISION.native("cpu"))
    sampling = costs.build_sampling(costs.settings(costs.METHODS["InfoNCE"], 1e-3, 1, 0))
    batch = next(iter(costs.fixed_batches(world, np.arange(4), sampling)))
    found = {method: costs.prepared(method, batch, world.ids) for method in ("InfoNCE", "MoCo")}
    for measured in found.values():
        assert costs.run_step(measured, batch) > 0
    assert found["MoCo"].cost.flops > found["InfoNCE"].cost.flops > 0
    assert found["InfoNCE"].state_bytes == 0
    found["InfoNCE"].seconds, found["MoCo"].seconds = [1.0, 2.0, 9.0], [3.0, 3.0, 3.0]
    rows = [line.split("|") for line in costs.table(found).splitlines()]
    assert [row[2:4] for row in rows[2:4]] == [[" 2.000 ", " 1.00 "], [" 3.000 ", " 1.50 "]]


def test_small_batches_are_rows_of_the_same_comparison(
    bench: ModuleType, world: Any, benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = benchmark_script("small_batches")
    monkeypatch.setattr(script, "objectives", bench)
    for name in ("METHODS", "EPOCHS", "measure", "score"):
        monkeypatch.setattr(script, name, getattr(bench, name))
    jobs = script.jobs()
    assert ("InfoNCE", 8, 0, 0) in jobs
    assert [job for job in jobs if job[0] == "SwAV"][:2] == [("SwAV", 32, 0, 0), ("SwAV", 32, 4, 0)]
    assert script.tuned_rate([], "InfoNCE") == script.RATES[0]
    row = script.run(world, 1e-3, "SwAV", 4, 2, 0)
    assert (row["lr"], row["epochs"]) == (pytest.approx(1e-3 * (4 / 32) ** 0.5), 1)
    line = script.table([row | {"batch": 32, "local_views": 4}]).splitlines()[2]
    assert line.startswith("| SwAV | 32 | 4 | 1 |")
