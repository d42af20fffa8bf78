"""A small run of the benchmark on real material, with generated stand-ins: its rows, its measures and its tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from avssl.synthetic import SceneSettings, draw_scene
from avssl.synthetic.scene import Scene

from .conftest import shrunk


@pytest.fixture
def real(benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    torch.set_num_threads(1)
    module, stamps = benchmark_script("real"), benchmark_script("real_stamps")
    measures, grid = module.stamps_measures, module.real_grid
    precision = benchmark_script("objectives").Precision()
    for place in (measures, grid, benchmark_script("localization")):
        monkeypatch.setattr(place, "PRECISION", precision)
    # Scenes of SoundingShapes in place of those of the packages, which are not in the tests.
    monkeypatch.setattr(stamps, "Draw", lambda packages: draw_scene)
    monkeypatch.setattr(stamps, "SPLITS", shrunk(stamps.SPLITS, 90))
    monkeypatch.setattr(module, "SHAPES_SPLITS", shrunk(module.SHAPES_SPLITS, 16))
    monkeypatch.setattr(measures, "LOOK", {**measures.LOOK, "width": 32})
    monkeypatch.setattr(measures, "BATCH", 8)
    monkeypatch.setattr(measures, "BACKBONE_SIZE", 32)
    monkeypatch.setattr(measures, "SHAPES_EPOCHS", 1)
    monkeypatch.setattr(
        measures, "METHODS", {name: replace(method, epochs=1) for name, method in measures.METHODS.items()}
    )
    monkeypatch.setattr(grid, "EPOCHS", 1)
    monkeypatch.setattr(grid, "BATCH", 4)
    return module


def test_rows_of_stamps_are_made_once_and_told_apart_by_pool(real: ModuleType, tmp_path: Path) -> None:
    bench = real.Bench((), None, tmp_path, tmp_path / "rows.jsonl", until=1e12)
    methods = ["baselines", "random-init", "default, first on SoundingShapes"]
    for job in real.missing(bench.file, ["stamps"], methods)[:3]:
        real.run(bench, job)
    assert real.missing(bench.file, ["stamps"], methods)[0] == ("stamps", "baselines", 1)
    priors, untrained, trained = real.read_rows(bench.file)
    assert trained["epochs"] == 1
    assert untrained["epochs"] == 0
    for pool, numbers in trained["pools"].items():
        assert 0 <= numbers["swapped_pointing"] <= 1
        assert ("iiou" in numbers) == (pool in ("test", "unseen"))
        assert numbers["object_chance"] == pytest.approx(1 / 12)
    assert priors["pools"]["unseen"]["chance_ap_off_screen"] == pytest.approx(0.5, abs=0.05)
    text = real.tables(real.read_rows(bench.file))
    assert "| random object | " in text
    assert "| both unseen | seeds | pointing |" in text


def test_a_frozen_network_is_trained_on_the_maps_of_its_frames(real: ModuleType, tmp_path: Path) -> None:
    bench = real.Bench((), None, tmp_path, tmp_path / "rows.jsonl", until=1e12)
    frozen = "the same backbone, frozen at random weights"
    measures, world = real.stamps_measures, bench.stamps
    task = real.untrained(measures.settings(measures.METHODS[frozen], 0), world)
    whole = measures.whole_frames(task.transform.video_eval)
    maps = real.frame_maps(tmp_path / "maps.npy", task, world, whole)
    frames = torch.from_numpy(world.video[5][[0, 0]].copy())[None]  # clips of 16 frames have one map
    wanted = task.model.video_encoder.forward_features(whole(frames, torch.tensor([[32, 32]])))
    with real.reading(task, world, maps) as clips:
        pixels = [torch.from_numpy(clips.video[row][np.array([1, 9])])[None] for row in (5, 6)]
        own, other = (task.model.video_encoder.forward_features(task.transform.video_augment(x)) for x in pixels)
    assert own.shape == wanted.shape
    assert 5 * (own - wanted).abs().mean() < (other - wanted).abs().mean()
    row = real.run(bench, ("stamps", frozen, 0))
    assert row["epochs"] == 1
    assert (tmp_path / "maps").is_dir()


def test_rows_of_grid_have_retrieval_sync_and_words(real: ModuleType, manifest: Path, tmp_path: Path) -> None:
    bench = real.Bench((), manifest, tmp_path / "work", tmp_path / "rows.jsonl", until=1e12)
    for method in ("random-init", "frame-wise, all clips", "pooled", "whole frame: pooled + best cell"):
        real.run(bench, ("grid", method, 0))
    untrained, framewise, pooled, whole = real.read_rows(bench.file)
    assert 0 <= whole["on_lips"] <= 1
    assert whole["chance_on_lips"] == pytest.approx(1 / 9, abs=0.03)
    assert framewise["sync"]["n"] == 3
    assert framewise["digit_chance"] == 0.5
    assert "moments_R@10" in framewise
    assert "moments_R@10" not in pooled
    assert untrained["epochs"] == 0
    assert (tmp_path / "work" / "models" / "grid-pooled-0" / "release" / "config.json").is_file()
    assert "| chance | " in real.tables(real.read_rows(bench.file))


def test_share_of_augmentation_in_audio_is_that_of_known_variances(
    benchmark_script: Callable[[str], ModuleType],
) -> None:
    share = benchmark_script("real_augmentation").audio_share
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(1, 64, 200, generator=generator)
    noise = torch.randn(8, 64, 200, generator=generator)
    assert share(clips.expand(8, -1, -1)) == 0
    assert share(clips + 2 * noise) == pytest.approx(4 / 5, abs=0.02)  # variance 1 of clips and 4 of views
    assert share(noise) == pytest.approx(1, abs=0.02)


def test_augmentation_of_audio_is_measured_by_part(
    real: ModuleType, benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = benchmark_script("real_augmentation")
    monkeypatch.setattr(script, "PARTS", {name: script.PARTS[name] for name in ("loudness alone (default)", "filter")})
    bench = real.Bench((), None, tmp_path, tmp_path / "rows.jsonl", until=1e12)
    found = real.shares(bench.stamps)
    assert found["loudness alone (default)"] < found["filter"] < 1
    assert "| filter | " in real.share_table(found)


def test_features_of_a_word_are_those_of_its_span(real: ModuleType) -> None:
    maps = torch.arange(8.0).expand(1, 2, 8)
    found = real.real_grid.at_spans(maps, torch.tensor([[1.0, 2.0]]), seconds=2.0)
    assert found.tolist() == [[4, 5, 6, 7, 4, 5, 6, 7]]


def test_the_scenes_of_a_pool_differ_by_kind(benchmark_script: Callable[[str], ModuleType]) -> None:
    stamps = benchmark_script("real_stamps")
    drawn: list[tuple[int, str]] = []

    def draw(settings: SceneSettings, seed: int, split: str, index: int, world: object) -> Scene:
        drawn.append((seed, split))
        return draw_scene(SceneSettings(width=32, height=32), seed, split, index)

    draws = stamps.Draw(())
    vars(draws)["_world"] = None
    original, stamps.draw_scene = stamps.draw_scene, draw
    try:
        for name in ("train", "unseen-several", "unseen-pairs"):
            draws(SceneSettings(), 4, name, 0)
    finally:
        stamps.draw_scene = original
    assert drawn == [(4, "train"), (4, "unseen"), (6, "unseen")]
