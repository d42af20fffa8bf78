"""A second call of the demo; test_packaging.py runs a whole tiny one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from avssl.config import to_yaml
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
