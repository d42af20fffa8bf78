"""A small run of the study of long trainings: parts, resume and tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture
def bench(benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = benchmark_script("long_training")
    tiny = module.Setting(clips=16, epochs=2, side=32, num_frames=3, width=4, test_clips=8)
    for name, value in {"SETTINGS": {"small": tiny}, "PARTS": 2, "BATCH": 8, "GALLERY": 40}.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_a_training_in_parts_is_one_training(bench: ModuleType, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    setting, file = bench.SETTINGS["small"], tmp_path / "rows.jsonl"
    sampling = bench.build_sampling(bench.config_of(setting, bench.DEFAULT, 0))
    world = bench.shapes(tmp_path / "clips", setting.splits, 2, sampling)
    left = partial(bench.missing, setting="small", variants=[bench.DEFAULT], seeds=[0])
    small = bench.Bench("small", world, file, tmp_path / "parts")
    bench.work(lambda: left(bench.read_rows(file)), partial(bench.run, small), until=1e12)
    rows = bench.read_rows(file)
    assert [(row["part"], row["steps"]) for row in rows] == [(1, 2), (2, 4)]
    assert left(rows) == []

    whole = tmp_path / "whole.jsonl"
    bench.run(bench.Bench("small", world, whole, tmp_path / "whole"), (bench.DEFAULT, 0, 2))
    (row,) = bench.read_rows(whole)
    same = [name for name in row if name != "seconds"]
    assert {name: row[name] for name in same} == {name: rows[1][name] for name in same}

    table = bench.table(rows)
    assert "| default | 1 |" in table
    assert "| step 2 | 0 |" in table


def test_every_variant_is_a_config(bench: ModuleType) -> None:
    setting = bench.SETTINGS["small"]
    configs = {name: bench.config_of(setting, name, 0) for name in bench.VARIANTS}
    assert all(configs[name] != configs[bench.DEFAULT] for name in configs if name != bench.DEFAULT)
