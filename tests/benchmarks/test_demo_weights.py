"""The packaged weights are trained on several worlds at once: their batches, their loss, and a run from end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from avssl.core.batch import BatchIndex, Embeddings
from avssl.core.errors import InputError
from avssl.hub.pretrained import from_pretrained
from avssl.objectives import InfoNCE
from avssl.synthetic import draw_scene

from .conftest import shrunk

NEEDED = ("train", "several")


@pytest.fixture
def script(benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    torch.set_num_threads(1)
    module, stamps = benchmark_script("demo_weights"), benchmark_script("real_stamps")
    precision = benchmark_script("objectives").Precision()
    for place in (module, benchmark_script("localization"), benchmark_script("real_grid")):
        monkeypatch.setattr(place, "PRECISION", precision)
    # Scenes of SoundingShapes in place of those of the packages, which are not in the tests.
    monkeypatch.setattr(stamps, "Draw", lambda packages: draw_scene)
    monkeypatch.setattr(
        stamps, "SPLITS", shrunk({name: stamps.SPLITS[name] for name in stamps.SPLITS if name.endswith(NEEDED)}, 40)
    )
    monkeypatch.setattr(module, "package_folders", lambda folders: folders)
    monkeypatch.setattr(module, "SPLITS", shrunk(module.SPLITS, 40))
    monkeypatch.setattr(module, "METHOD", replace(module.METHOD, epochs=1))
    monkeypatch.setattr(module, "STEPS", 2)
    monkeypatch.setattr(module, "SHARES", {"SoundingShapes": (4, 1), "StampScenes": (4, 1), "GRID": (2, 2)})
    return module


@pytest.fixture
def small_faces(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the frames of GRID have the size of those of the shrunk worlds."""
    grid = script.real_grid
    monkeypatch.setitem(grid.VIEWS, grid.WHOLE, replace(grid.VIEWS[grid.WHOLE], side=32))


@pytest.mark.usefixtures("small_faces")
def test_a_release_is_made_from_end_to_end(
    script: ModuleType, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["demo_weights.py", str(tmp_path / "out"), "--grid", str(manifest), "--stamps", "none"]
    words += ["--work", str(tmp_path / "work")]
    monkeypatch.setattr("sys.argv", [*words, "--threads", "1"])
    described: list[Path] = []  # by hundreds of rendered clips: tests/hub looks at the statistics that are packaged
    monkeypatch.setattr(script, "add_worlds", lambda release, *_: described.append(release))
    script.main()
    assert described == [tmp_path / "out"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "12 of GRID, 40 of StampScenes; 1 epochs on the first, then 2 steps on all" in card
    for text in ("GRID, peak in the box of the lips: ", "StampScenes, pointing, both unseen: ", "CC BY 4.0", "GPL-2"):
        assert text in card
    assert from_pretrained(tmp_path / "out").config.objective.name == "info_nce"


def test_without_grid_the_error_names_the_script_that_makes_it(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["demo_weights.py", str(tmp_path / "out"), "--grid", str(tmp_path / "none.csv")])
    with pytest.raises(InputError, match=r"datasets/grid\.py"):
        script.main()


@pytest.mark.usefixtures("small_faces")
def test_windows_of_a_file_are_rows_of_one_world(script: ModuleType, manifest: Path, tmp_path: Path) -> None:
    clips = script.real_grid.sentences(manifest, tmp_path / "clips", script.real_grid.WHOLE)
    sampling = script.build_sampling(script.settings(script.METHOD, 0))
    loader = script.WorldsLoader([script.Part(clips, 3), script.Part(clips, 2, windows=3)], 0, sampling)
    batch = next(iter(loader))
    assert (batch.index.group // 2**32).tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert len(batch.index.group.unique()) == 5
    assert len(batch.index.key[3:].unique()) == 6
    # Other times of one file: no window is that of another.
    assert len({row.numpy().tobytes() for row in batch.audio[3:]}) == 6
    state = loader.state_dict()
    again = script.WorldsLoader([script.Part(clips, 3), script.Part(clips, 2, windows=3)], 0, sampling)
    again.load_state_dict(state)
    assert torch.equal(next(iter(again)).audio, next(iter(loader)).audio)


def test_the_loss_is_the_mean_of_the_worlds(script: ModuleType) -> None:
    """A world of several windows counts as the mean of its files."""
    objective = InfoNCE(pooling="pooled")
    video, audio = torch.randn(2, 7, 8).unbind()
    group = torch.tensor([0, 1, 2, 2**32, 2**32, 2**32 + 1, 2**32 + 1])
    index = BatchIndex(group, group, group)
    parts = [script.Part(None, 3), script.Part(None, 2, windows=2)]
    found = script.EachWorld(objective, parts)(Embeddings(video, audio), None, index)
    first, *files = (
        objective(Embeddings(video[rows], audio[rows]), None, _part(index, rows)).total.item() for rows in PARTS
    )
    assert found.total.item() == pytest.approx((first + sum(files) / 2) / 2)
    assert found.terms["loss_1"].item() == pytest.approx(sum(files) / 2)


PARTS = (slice(0, 3), slice(3, 5), slice(5, 7))


def _part(index: BatchIndex, rows: slice) -> BatchIndex:
    return BatchIndex(index.row[rows], index.group[rows], index.key[rows])
