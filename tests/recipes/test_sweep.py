"""Sweeps: the grid of a command line, the runs, and the table."""

import json

import pytest

from avssl.cli import main
from avssl.config import ConfigError, Grid, GridRun, load_run_config
from avssl.config.command import Verb
from avssl.recipes.sweep import runs as runs_module
from avssl.recipes.sweep.summary import last_numbers, summarize, write_summary
from avssl.training.metric_names import metric_names
from avssl.training.monitors.probe import NUMBERS as PROBE

SWEEP = Verb("sweep", "avssl.recipes.sweep:sweep")


@pytest.fixture
def words(videos, tmp_path, tiny_config):
    """The command line of a sweep of four runs of one epoch."""
    from avssl.config import flatten, to_dict

    own = flatten(to_dict(tiny_config(videos, optim={"epochs": 1}, monitor={"every_steps": 2, "num_clips": 4})))
    names = (
        "sampling.num_frames sampling.frames_per_second sampling.audio_seconds sampling.sample_rate_hz "
        "transform.video.size transform.spectrogram.num_mels transform.spectrogram.window_length "
        "model.video.width model.audio.width model.head.hidden model.head.out_features optim.batch_size optim.epochs "
        "train.threads train.precision train.memory_format data.num_workers monitor.every_steps monitor.num_clips"
    )
    settings = [word for name in names.split() for word in (f"--{name.replace('_', '-')}", str(own[name]))]
    axes = ["--objective.temperature", "0.05", "0.2", "--train.seed", "0", "1"]
    return ["sweep", str(videos), *axes, *settings, "--no-progress", "-o", str(tmp_path / "sweep")]


def test_sweep_makes_all_runs_skips_finished_ones_and_continues_others(words, tmp_path, capsys):
    out = tmp_path / "sweep"
    assert main([*words, "--dry-run"]) == 0
    assert "4 runs; dry run" in capsys.readouterr().out
    assert not out.exists()
    assert main(words) == 0
    runs = sorted(path.name for path in (out / "runs").iterdir())
    assert runs[0] == "objective.temperature=0.05_train.seed=0"
    assert len(runs) == 4
    content = json.loads((out / "sweep.json").read_text())
    assert [row["values"] for row in content["rows"]] == [
        {"objective.temperature": "0.05"},
        {"objective.temperature": "0.2"},
    ]
    assert [row["runs"] for row in content["rows"]] == [2, 2]
    losses = [run["metrics"]["loss"] for run in content["runs"]]
    assert content["rows"][0]["metrics"]["loss"][0] == pytest.approx(sum(losses[:2]) / 2)
    assert "| 0.05 |" in (out / "table.md").read_text()
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    logged = last_numbers(out / "runs" / runs[0] / "metrics.jsonl")
    assert set(metric_names(load_run_config(out / "runs" / runs[0]))) - logged.keys() == set(PROBE)  # without labels

    release = out / "runs" / runs[3] / "weights" / "model.safetensors"
    before, first = release.read_bytes(), (out / "runs" / runs[0] / "metrics.jsonl").stat().st_mtime_ns
    release.unlink()  # as if the last run had been interrupted after its last checkpoint
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out.count(": is there") == 3
    assert release.read_bytes() == before
    assert (out / "runs" / runs[0] / "metrics.jsonl").stat().st_mtime_ns == first

    assert main([*words, "--optim.lr", "0.5"]) == 1
    assert "optim.lr" in (error := capsys.readouterr().err)
    assert "0.5 is requested" in error
    assert "--overwrite" in error
    assert main([*words, "--metric", "accuracy"]) == 1
    assert "--metric accuracy: the runs have no such metric, but" in capsys.readouterr().err


def test_array_task_makes_one_run(words, tmp_path, monkeypatch, capsys):
    out = tmp_path / "sweep"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    assert main(words) == 2
    assert "SLURM_ARRAY_TASK_ID (4) must be 0 to 3" in capsys.readouterr().err
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert main(words) == 0
    assert [path.name for path in (out / "runs").iterdir()] == ["objective.temperature=0.2_train.seed=0"]
    assert "3 runs are not finished" in capsys.readouterr().out


def test_grid_has_every_combination_and_lists_are_one_value(tmp_path):
    grid = SWEEP.parse(["x", "--optim.betas", "0.9", "0.99", "--train.seed", "0", "1", "2", "--optim.lr", "1", "2"])
    assert grid["grid"].axes == {"train.seed": ("0", "1", "2"), "optim.lr": ("1", "2")}
    assert [run.values["train.seed"] for run in grid["grid"].runs] == list("001122")
    assert {run.config.optim.betas for run in grid["grid"].runs} == {(0.9, 0.99)}
    assert {run.config.data.source for run in grid["grid"].runs} == {"x"}
    names = SWEEP.parse(["x", "--objective.name", "info_nce", "siglip"])["grid"]
    assert [run.config.objective.name for run in names.runs] == ["info_nce", "siglip"]
    file = tmp_path / "x.yaml"
    file.write_text("objective: {temperature: 0.3}\ndata: {source: y}\n")
    (run,) = SWEEP.parse([str(file)])["grid"].runs
    assert (run.config.objective.temperature, run.config.data.source, run.values) == (0.3, "y", {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--objective.temprature", "1", "2"], r"--objective.temprature is not a setting. Did you mean"),
        (["--objective.temperature", "1", "-2"], r"--objective.temperature \(-2"),
        (["--train.seed", "1", "1"], r"--train.seed \(1 1\): a value is given twice"),
        (["--optim.epochs", "1", "two"], r"--optim.epochs"),
        (["--objective.name", "info_nce", "siglip2"], r"objective.name \(siglip2\) must be one of"),
    ],
)
def test_a_wrong_value_of_any_run_is_an_error_before_the_first(given, message):
    with pytest.raises(ConfigError, match=message):
        SWEEP.parse(["x", *given])


def test_summary_of_names_is_plotted_over_their_places(tmp_path):
    from avssl.config import Config

    runs = [GridRun({"objective.name": name}, Config()) for name in ("info_nce", "siglip")]
    finished = {}
    for number, run in enumerate(runs):
        (tmp_path / str(number)).mkdir()
        lines = [{"step": 1, "loss": 5.0}, {"step": 2, "loss": None if number else 3.0}]
        (tmp_path / str(number) / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        finished[tmp_path / str(number)] = run
    summary = summarize(Grid({"objective.name": ("info_nce", "siglip")}, tuple(runs)), finished, ())
    assert [row.metrics["loss"] for row in summary.rows] == [(3.0, 0.0), (5.0, 0.0)]
    write_summary(tmp_path / "out", summary)
    assert (tmp_path / "out" / "sweep.png").exists()


def test_a_metric_that_the_first_run_lacks_ends_the_sweep(tmp_path, monkeypatch, capsys):
    made = []

    def pretrain(config, *, out, **_):
        made.append(out.name)
        (out / "weights").mkdir(parents=True)
        (out / "weights" / "model.safetensors").touch()
        (out / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n')

    monkeypatch.setattr(runs_module, "pretrain", pretrain)
    words = ["sweep", str(tmp_path / "videos"), "--out", str(tmp_path / "sweep"), "--train.seed", "0", "1"]
    assert main([*words, "--metric", "los"]) == 1
    error = capsys.readouterr().err
    assert "--metric los: the runs have no such metric, but step, epoch, " in error
    assert "retrieval/R@10, " in error
    assert "Did you mean loss?" in error
    assert not (tmp_path / "sweep").exists()  # before the first run
    probe = [*words, "--metric", "probe/video_accuracy"]
    assert main(probe) == 1
    assert "--metric probe/video_accuracy: the runs have no such metric, but step, loss." in capsys.readouterr().err
    assert made == ["train.seed=0"]  # rows without labels have no probe, as the first run shows
    assert main(probe) == 1
    assert made == ["train.seed=0"]
    assert main([*words, "--metric", "loss"]) == 0
    assert made == ["train.seed=0", "train.seed=1"]
