"""A second call of the demo; test_packaging.py runs a whole tiny one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from avssl.config import to_yaml
from avssl.core.lock import OutputError
from avssl.core.output_records import Command
from avssl.core.outputs import FolderKind, claimed_folder
from avssl.engine import Checkpointer
from avssl.recipes.demo import stages
from avssl.recipes.demo.settings import DemoPlan, DemoSettings


@pytest.fixture
def called(monkeypatch):
    """The calls of an interrupted pretrain."""
    calls = []

    def pretrain(config, **options):
        calls.append((config, options))
        out = options.get("out") or options["resume"]
        (out / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "pretrain", pretrain)
    return calls


def test_an_interrupted_training_is_continued(called, tmp_path, monkeypatch):
    folder, settings = stages.DemoFolder(tmp_path), DemoSettings(tiny=True)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            stages._pretrain(folder, settings, DemoPlan(1))
    assert [options for _, options in called] == 2 * [{"out": folder.run}]  # there was no checkpoint to continue from

    Checkpointer(folder.run / "checkpoints").save(3, {})
    with pytest.raises(KeyboardInterrupt):
        stages._pretrain(folder, DemoSettings(tiny=True, seed=1), DemoPlan(1))
    assert called[-1][1] == {"out": folder.run}  # the weights belong to other settings
    assert not (folder.run / "checkpoints").exists()

    Checkpointer(folder.run / "checkpoints").save(3, {})
    ended = SimpleNamespace(step=4, samples_seen=32, wall_seconds=1.0, metrics={"loss": 1.0})
    monkeypatch.setattr(stages, "pretrain", lambda *_, **options: (called.append((0, options)), ended))
    assert stages._pretrain(folder, DemoSettings(tiny=True, seed=1), DemoPlan(1))["steps"] == 4
    assert called[-1][1] == {"resume": folder.run}
    assert stages._pretrain(folder, DemoSettings(tiny=True, seed=1), DemoPlan(1))["steps"] == 4
    assert called[-1][1] == {"out": folder.run}  # a finished training starts over


# ---------------------------------------------------------------- files of somebody else


@pytest.fixture
def quick(monkeypatch):
    """Stages that write one file each."""

    def stage(name):
        def run(folder, *_):
            path = folder.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("made")
            return {}

        return run

    monkeypatch.setattr(stages, "make_plan", lambda *_: DemoPlan(1))
    monkeypatch.setattr(stages, "_synthesize", stage("corpus/train/000000.mp4"))
    monkeypatch.setattr(stages, "_index", stage("index.csv"))
    monkeypatch.setattr(stages, "_pretrain", stage("run/config.yaml"))
    monkeypatch.setattr(stages, "read_manifest", lambda path: None)
    monkeypatch.setattr(stages, "measure", lambda run, *_: (run.parent / "cache").mkdir(exist_ok=True))
    monkeypatch.setattr(stages, "draw_overlays", lambda *_: None)

    def report(folder, *_):
        folder.report.write_text("made")
        return folder.report

    monkeypatch.setattr(stages, "_report", report)


PRECIOUS = ("corpus/my_videos/a.txt", "cache/b.txt", "run/thesis/c.txt", "report.html", "corpus/train/000000.mp4")


@pytest.mark.parametrize("name", PRECIOUS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_somebody_else_is_left_alone(quick, tmp_path, name, overwrite):
    path = tmp_path / "demo" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    with pytest.raises(OutputError, match=rf"holds other files \({name}\)"):
        stages.run_demo(tmp_path / "demo", DemoSettings(tiny=True), overwrite)
    assert [found for found in (tmp_path / "demo").rglob("*") if found.is_file()] == [path]
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", PRECIOUS[:3])
def test_files_that_are_added_to_a_demo_are_never_removed(quick, tmp_path, name):
    demo, settings = tmp_path / "demo", DemoSettings(tiny=True)
    stages.run_demo(demo, settings)
    (demo / name).parent.mkdir(parents=True, exist_ok=True)
    (demo / name).write_text("precious")
    stages.run_demo(demo, settings)  # finished stages are used again
    with pytest.raises(OutputError, match=rf"holds other files \({name}\)"):
        stages.run_demo(demo, settings, overwrite=True)
    assert (demo / name).read_text() == "precious"
    assert (demo / "corpus/train/000000.mp4").is_file()


def test_a_demo_of_other_settings_is_replaced_with_overwrite_only(quick, tmp_path):
    demo = tmp_path / "demo"
    stages.run_demo(demo, DemoSettings(tiny=True))
    with pytest.raises(OutputError, match=r"holds a demo with seed 0, but 1 is requested\. Start over with"):
        stages.run_demo(demo, DemoSettings(tiny=True, seed=1))
    stages.run_demo(demo, DemoSettings(tiny=True, seed=1), overwrite=True)
    stages.run_demo(demo, DemoSettings(tiny=True, seed=1))


def test_a_second_process_on_a_demo_is_an_error(quick, tmp_path):
    with claimed_folder(tmp_path / "demo", Command.of("demo"), FolderKind("a demo", ())):
        for overwrite in (False, True):
            with pytest.raises(OutputError, match="is writing it"):
                stages.run_demo(tmp_path / "demo", DemoSettings(tiny=True), overwrite)
