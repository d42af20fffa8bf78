"""A small run of the comparison of video towers: weights of pictures, every tower, resume and tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from .conftest import shrunk

pytest.importorskip("timm")


@pytest.fixture
def bench(benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = benchmark_script("backbones")
    monkeypatch.setattr(module, "SCENE", module.SCENE | {"width": 32, "height": 32})
    monkeypatch.setattr(module, "SPLITS", shrunk(module.SPLITS, 96))
    arguments = {"depth": 1, "embed_dim": 48, "num_heads": 2, "img_size": 32, "patch_size": 8}
    monkeypatch.setattr(module, "ARGUMENTS", arguments)
    module.SCRATCH["config"] = [f"{key}={value}" for key, value in arguments.items()]
    for name, value in {"EPOCHS": 1, "BATCH": 8, "PICTURE_STEPS": 3, "PICTURE_BATCH": 8, "SEEDS": (0, 1)}.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_every_tower_is_measured_and_the_best_gets_more_seeds(bench: ModuleType, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    pictures, file = tmp_path / "pictures", tmp_path / "rows.jsonl"
    sampling = bench.build_sampling(bench.settings("small convolutions", pictures, 0))
    world = bench.shapes(tmp_path / "world", bench.SPLITS, 0, sampling)
    about = bench.train_on_pictures(pictures, world)
    weights = (pictures / "model.safetensors").stat().st_mtime_ns
    assert bench.train_on_pictures(pictures, world) == about
    assert (pictures / "model.safetensors").stat().st_mtime_ns == weights
    for number in range(len(bench.TOWERS)):
        tower, seed = bench.missing(bench.read_rows(file))[0]
        assert (tower, seed) == (list(bench.TOWERS)[number], 0)
        row = bench.run(tower, pictures, world, seed, file)
        assert (row["trainable"] == 0) == (tower == "ViT on pictures, frozen")
    rows = bench.read_rows(file)
    best = max(rows, key=lambda row: row["pointing"])["tower"]
    assert bench.missing(rows) == [(best, 1)]
    text = bench.results(rows, about)
    assert all(f"| {tower} | 1 |" in text for tower in bench.TOWERS)
    assert "chance 0.083" in text or "The classifier of pictures" in text
