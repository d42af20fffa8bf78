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
    small = {
        "SPLITS": shrunk(module.SPLITS, 64),
        "EPOCHS": 1,
        "SEEDS": (0,),
        "BLOCKS": {"deep": (2, 3)},
        "NUM_LABELED": 32,
        "FINETUNE_EPOCHS": 1,
    }
    for name, value in small.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_every_part_is_measured_and_continues(bench: ModuleType, tmp_path: Path) -> None:
    world = bench.shapes(tmp_path / "clips", bench.SPLITS, 0, bench.build_sampling(bench.settings(0)))
    file = tmp_path / "rows.jsonl"
    wanted = {
        "blocks": ["deep, classifier", "deep, InfoNCE", "deep, random-init"],
        "losses": ["object, sigmoid", "object, random-init"],
        "head": ["0", "3"],
    }
    for part, names in wanted.items():
        for name in names:
            bench.run((part, name, 0), world, file)
    rows = {(row["part"], row["name"]): row for row in bench.read_rows(file)}
    assert list(rows["head", "3"]["probes"]) == ["encoder", "head.1", "head.2", "head"]
    assert rows["head", "0"]["probes"]["encoder"] == rows["head", "0"]["probes"]["head"]
    assert list(rows["head", "3"]["finetuned"]) == ["0", "1", "2"]
    for how, score in (("classifier", ["top1"]), ("InfoNCE", ["R@10"]), ("random-init", [])):
        deep = rows["blocks", f"deep, {how}"]
        assert deep["names"] == ["stem", "stage1.0", "stage1.1", "stage2.0", "stage2.1", "stage2.2"]
        assert list(deep["deleted"]) == ["stage1.1", "stage2.1", "stage2.2"]
        assert list(deep["whole"]) == list(deep["deleted"]["stage1.1"]) == [*score, "neighbors"]
    assert "top1" not in rows["losses", "object, random-init"]
    assert 0 <= rows["losses", "object, sigmoid"]["separation"] <= 1
    left = bench.jobs(["head"], file)
    assert ("head", "3", 0) not in left
    assert ("head", "1", 0) in left
    text = bench.tables(list(rows.values()), tmp_path)
    for header in ("| video encoder |", "| source and transfer |", "| layers of the head |", "| fine-tuned |"):
        assert header in text
    assert (tmp_path / "inside_classifier.png").stat().st_size > 5000
