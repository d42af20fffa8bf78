"""A small run of the view inside: every part trains, is measured and has its table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from .conftest import shrunk


@pytest.fixture
def bench(benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = benchmark_script("inside")
    small = {"SPLITS": shrunk(module.SPLITS, 64), "EPOCHS": 1, "SEEDS": (0,), "BLOCKS": {"deep": (2, 3)}}
    for name, value in small.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_every_part_is_measured_and_continues(bench: ModuleType, tmp_path: Path) -> None:
    world = bench.shapes(tmp_path / "clips", bench.SPLITS, 0, bench.build_sampling(bench.settings(0)))
    file = tmp_path / "rows.jsonl"
    wanted = {
        "head": ["0", "2"],
        "blocks": ["deep, trained", "deep, random-init"],
        "losses": ["sigmoid", "random-init"],
    }
    for part, names in wanted.items():
        for name in names:
            bench.run((part, name, 0), world, file)
    rows = {(row["part"], row["name"]): row for row in bench.read_rows(file)}
    assert list(rows["head", "2"]["probes"]) == ["encoder", "head.1", "head"]
    assert rows["head", "0"]["probes"]["encoder"] == rows["head", "0"]["probes"]["head"]
    deep = rows["blocks", "deep, trained"]
    assert deep["names"] == ["stem", "stage1.0", "stage1.1", "stage2.0", "stage2.1", "stage2.2"]
    assert list(deep["removed"]) == ["stage1.1", "stage2.1", "stage2.2"]
    assert "top1" not in rows["losses", "random-init"]
    assert 0 <= rows["losses", "sigmoid"]["separation"] <= 1
    left = bench.jobs(["head"], file)
    assert ("head", "2", 0) not in left
    assert ("head", "1", 0) in left
    text = bench.tables(list(rows.values()), tmp_path)
    assert "| layers of the head |" in text
    assert "| video encoder |" in text
    assert "| loss |" in text
    assert (tmp_path / "blocks.png").stat().st_size > 5000
