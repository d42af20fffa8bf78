"""A small run of the comparison of video towers: weights of images, every tower, tuning, resume and tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from avssl.data.sampling import ClipSampling

from .conftest import shrunk

pytest.importorskip("timm")


@pytest.fixture
def bench(benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = benchmark_script("backbones")
    arguments = {"depth": 1, "embed_dim": 48, "num_heads": 2, "img_size": 32, "patch_size": 8}
    monkeypatch.setitem(module.SCRATCH, "config", [f"{key}={value}" for key, value in arguments.items()])
    small = {
        "SCENE": module.SCENE | {"width": 32, "height": 32},
        "SPLITS": shrunk(module.SPLITS, 96),
        "CLASSIFIER": module.CLASSIFIER | arguments,
        "EPOCHS": 3,
        "BATCH": 32,
        "SEEDS": (0, 1),
        "RATES": (1e-3,),
    }
    for name, value in small.items():
        monkeypatch.setattr(module, name, value)
    for name, value in {"STEPS": 3, "BATCH": 8, "MARGIN": 4}.items():
        monkeypatch.setattr(benchmark_script("backbone_pictures"), name, value)
    return module


@pytest.fixture
def world(bench: ModuleType, tmp_path: Path) -> Any:
    return bench.shapes(tmp_path / "world", bench.SPLITS, 0, ClipSampling(**bench.SAMPLING))


def test_every_tower_is_tuned_and_measured_and_the_best_gets_more_seeds(
    bench: ModuleType, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    frozen, untrained = "ViT on images, frozen", "ViT on images, untrained here"
    monkeypatch.setattr(bench, "TRAINED", {name: bench.TRAINED[name] for name in (bench.PAIR, frozen)})
    monkeypatch.setattr(bench, "UNTRAINED", {untrained: bench.UNTRAINED[untrained]})
    pictures, file = tmp_path / "pictures", tmp_path / "rows.jsonl"
    bench.append_row(file, bench.train_on_pictures(pictures, world, bench.ARCHITECTURE, bench.CLASSIFIER))
    while (todo := bench.missing(rows := bench.read_rows(file))) and todo[0][-1] != 1:
        stage, tower, lr, seed = todo[0]
        row = bench.run(stage, tower, lr, seed, pictures=pictures, world=world, file=file)
        assert (row["trainable"] == 0) == (tower == frozen)
        assert row["epochs"] == (0 if tower in bench.UNTRAINED else 1 if stage == "tune" else 3)
    assert {(row["stage"], row["tower"]) for row in rows[1:]} == {
        *(("tune", tower) for tower in bench.TRAINED),
        *(("final", tower) for tower in bench.TRAINED | bench.UNTRAINED),
    }
    assert [job[1] for job in todo] == list(dict.fromkeys((bench.best(rows), bench.PAIR)))
    text = bench.results(rows)
    assert all(f"| {tower} | 1 |" in text for tower in bench.TRAINED | bench.UNTRAINED)
    assert "The classifier of images" in text


def test_the_better_rate_on_validation_clips_is_used(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RATES", (1e-3, 3e-3))
    rows = [
        {"stage": "tune", "tower": tower, "lr": lr, "seed": bench.TUNING_SEED, "pointing": pointing, "R@10": retrieval}
        for tower in bench.TRAINED
        for lr, pointing, retrieval in ((1e-3, 0.5, 0.1), (3e-3, 0.4, 0.3))
    ]
    finals = [job for job in bench.missing(rows) if job[1] in bench.TRAINED]
    assert finals == [("final", tower, 3e-3, 0) for tower in bench.TRAINED]


def test_weights_of_pictures_are_loaded_once_and_see_the_whole_frame(
    bench: ModuleType, world: Any, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    about = bench.train_on_pictures(pictures, world, bench.ARCHITECTURE, bench.CLASSIFIER)
    saved = load_file(pictures / "model.safetensors")
    assert bench.train_on_pictures(pictures, world, bench.ARCHITECTURE, bench.CLASSIFIER) == about
    for tower in bench.TRAINED:
        config = bench.settings(tower, pictures, 0, 1e-3, 1)
        assert (config.transform.video.size, config.transform.video.eval_crop) == (32, "full")
        if "pretrained" in bench.TRAINED[tower]:
            task = bench.train(config, world, is_trained=False)
            own = task.model.video_encoder.backbone.network.state_dict()
            stem = next(name for name in own if name.endswith("patch_embed.proj.weight"))
            assert torch.equal(own[stem], saved["patch_embed.proj.weight"]), tower


def test_changed_pictures_keep_their_size(benchmark_script: Callable[[str], ModuleType]) -> None:
    pictures = benchmark_script("backbone_pictures")
    x = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    y = pictures.changed(x, np.random.default_rng(0))
    assert y.shape == x.shape
    assert not torch.equal(y, x)
    assert y.abs().max() <= 1
