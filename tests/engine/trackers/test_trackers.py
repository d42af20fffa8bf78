"""Every tracker keeps the numbers of a run in its own store, without a network, and a resume continues the same run."""

import importlib.machinery
import importlib.util
import json
import sqlite3
import struct
from contextlib import closing
from typing import get_args, get_type_hints

import pytest

from avssl.config.finetune import FinetuneTrainConfig
from avssl.config.settings import TrainConfig
from avssl.core.data_files import read_json
from avssl.engine import MetricsLog
from avssl.engine.trackers import TRACKERS, TrackedRun, TrackerError, check_trackers, create_trackers

SETTINGS = {"optim.lr": 0.1, "objective.name": "info_nce", "model.video.num_blocks": (1, 2)}


@pytest.fixture
def stores(tmp_path, monkeypatch):
    """Keep all that trackers write below one folder."""
    folder = tmp_path / "stores"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "TRACKIO_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(folder / "trackio"))
    return folder


def track(name, folder, start, *steps):
    """Log some steps of a run, as a process that is then killed or done would."""
    (tracker,) = create_trackers([name, name], TrackedRun(folder, "my run", SETTINGS))
    log = MetricsLog(folder, [tracker])
    log.start(start)
    for step in steps:
        log.write({"step": step, "retrieval/R@10": step / 10, "bad": float("inf"), "text": "a"})
    log.close()


def read_tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["retrieval/R@10"]
    return [(event.step, event.value) for event in events.Scalars("retrieval/R@10")]


@pytest.mark.parametrize("resumed", [0, 2])
def test_tensorboard_files_are_cut_back_by_a_resume(tmp_path, resumed):
    track("tensorboard", tmp_path, 0, 1, 2, 3)
    track("tensorboard", tmp_path, resumed, *range(resumed + 1, 5))
    assert read_tensorboard(tmp_path) == [(s, pytest.approx(s / 10)) for s in (1, 2, 3, 4)]


def test_mlflow_keeps_the_run_in_files(tmp_path, stores, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (stores / "mlruns").as_uri())
    track("mlflow", tmp_path / "run", 0, 1, 2, 3)
    track("mlflow", tmp_path / "run", 2, 3, 4)
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("avssl").experiment_id])
    assert run.info.run_name == "my run"
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(value) for name, value in SETTINGS.items()}
    assert list(run.data.metrics) == ["retrieval/R_at_10"]
    history = client.get_metric_history(run.info.run_id, "retrieval/R_at_10")
    assert [(metric.step, metric.value) for metric in history] == [(s, s / 10) for s in (1, 2, 3, 4)]


def test_trackio_keeps_the_run_in_its_database(tmp_path, stores):
    pytest.importorskip("trackio")
    track("trackio", tmp_path / "run", 0, 1, 2, 3)
    track("trackio", tmp_path / "run", 2, 3, 4)
    track("trackio", tmp_path / "another", 0, 1)  # of the same name
    with closing(sqlite3.connect(stores / "trackio" / "avssl.db")) as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        configs = database.execute("SELECT run_name, config FROM configs").fetchall()
    name, other = read_json(tmp_path / "run" / "trackers.json")["trackio"], rows[-1][0]
    assert name.startswith("my run-")
    assert name != other
    assert [(step, json.loads(metrics)) for run, step, metrics in rows if run == name] == [
        (s, {"retrieval/R@10": s / 10}) for s in (1, 2, 3, 4)
    ]
    assert json.loads(dict(configs)[name])["objective.name"] == "info_nce"


def test_wandb_writes_offline_runs_of_one_id(tmp_path, stores, monkeypatch):
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # a test before this one may have had it read its settings
    for part, steps in (("1", (0, 1, 2, 3)), ("2", (2, 3, 4))):  # W&B names folders by the second
        (stores / part).mkdir()
        monkeypatch.setenv("WANDB_DIR", str(stores / part))
        track("wandb", tmp_path / "run", *steps)
        wandb.teardown()  # ends its process, which keeps the folder
    files = sorted(stores.glob("*/wandb/offline-run-*/run-*.wandb"))
    records = [record for file in files for record in read_wandb(file)]
    runs = [record.run for record in records if record.HasField("run")]
    identity = read_json(tmp_path / "run" / "trackers.json")["wandb"]
    assert [(run.run_id, run.project, run.display_name) for run in runs] == [(identity, "avssl", "my run")] * 2
    logged = [record.history for record in records if record.HasField("history")]
    numbers = [{".".join(item.nested_key) or item.key: item.value_json for item in each.item} for each in logged]
    assert [(each.step.num, float(n["retrieval/R@10"])) for each, n in zip(logged, numbers, strict=True)] == [
        (s, s / 10) for s in (1, 2, 3, 4)
    ]
    assert all({"text", "bad", "step"}.isdisjoint(n) for n in numbers)


def read_wandb(file):
    """Return the records of an offline run: W&B's log has 7 bytes of header, and 7 before each record."""
    from wandb.proto import wandb_internal_pb2 as messages

    data, place, records = file.read_bytes(), 7, []
    while place < len(data):
        _, size, _ = struct.unpack("<IHB", data[place : place + 7])
        records.append(messages.Record.FromString(data[place + 7 : place + 7 + size]))
        place += 7 + size
    return records


def test_the_setting_knows_the_trackers():
    for group in (TrainConfig, FinetuneTrainConfig):
        names = get_args(get_args(get_type_hints(group)["trackers"])[0])
        assert list(names) == list(TRACKERS)


def test_a_missing_library_names_its_extra(monkeypatch):
    folder = importlib.machinery.ModuleSpec("trackio", None)  # such as a folder that an offline run left
    specs = {"wandb": None, "trackio": folder}
    library = importlib.machinery.ModuleSpec("library", None, origin="library/__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: specs.get(name, library))
    check_trackers(["tensorboard", "mlflow"])
    for name in specs:
        with pytest.raises(TrackerError, match=rf"{name} is not installed: pip install 'avssl\[{name}\]'"):
            check_trackers(["tensorboard", name])
