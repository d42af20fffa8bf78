"""What is said before a run: the room its checkpoints take."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from avssl.core.manifest import Manifest
from avssl.engine import checkpoint_bytes
from avssl.recipes.pretrain import pretrain
from avssl.training import run_plan
from avssl.training.build import build_task

WIDER = {"video": {"width": 24}, "audio": {"width": 24}}


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_predicted_checkpoint_size_is_that_of_the_file(videos, tiny_config, tmp_path, capsys, ema_decay, optimizer):
    config = tiny_config(
        videos,
        model=WIDER,
        optim={"epochs": 1, "name": optimizer},
        train={"ema_decay": ema_decay},
        monitor={"every_steps": 0},
    )
    pretrain(config, out=tmp_path / "run", progress=False)
    (file,) = (tmp_path / "run" / "checkpoints").iterdir()
    task = build_task(config)
    size = checkpoint_bytes(task, optimizer, averaged=None if ema_decay is None else task.model)
    assert 0.8 < size / file.stat().st_size < 1  # the rest is names, and what a file is made of
    assert f"disk        2 checkpoints of {size / 2**20:.0f} MiB; " in capsys.readouterr().out


def test_a_full_disk_warns_before_the_first_step(videos, tiny_config, tmp_path, monkeypatch, capsys):
    config = tiny_config(videos, model=WIDER, train={"keep_checkpoints": 3})
    out = tmp_path / "disk" / "run"
    out.parent.mkdir()
    asked = []
    monkeypatch.setattr(
        run_plan.shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=10 * 2**20)
    )
    with pytest.warns(UserWarning, match=r"run: 10 MiB are free, and the checkpoints will take up to \d+ MiB more"):
        pretrain(config, out=out, dry_run=True, progress=False)
    assert asked == [out.parent]
    text = capsys.readouterr().out
    assert f"run         {out}" in text
    assert re.search(r"disk        3 checkpoints of \d+ MiB; 10 MiB free", text)
    assert not out.exists()


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({}, "2 rows, of unknown length"),
        ({"duration_seconds": [None, None]}, "2 rows, of unknown length"),
        ({"duration_seconds": [3600.0, None]}, "2 rows, 1.00 h and 1 rows of unknown length"),
        ({"start_seconds": [0.0, 10.0], "stop_seconds": [1800.0, 1810.0]}, "2 rows, 1.00 h"),
    ],
)
def test_hours_of_a_manifest_without_durations(columns, text):
    manifest = Manifest.from_columns({"id": ["a", "b"], "path": ["a", "b"], **columns}, ".")
    assert f"{len(manifest)} rows, {run_plan._hours(manifest)}" == text
