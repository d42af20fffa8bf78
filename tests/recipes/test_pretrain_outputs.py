"""Files that a run replaces or leaves alone: other files, other processes, damaged files, changed settings."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from avssl.cli import main
from avssl.engine import load_checkpoint, read_metrics
from avssl.recipes.pretrain import pretrain
from avssl.training.run_directory import RunDirectory, RunDirectoryError

pytestmark = pytest.mark.filterwarnings("ignore:.*embeddings have collapsed")  # the runs are tiny


def test_a_run_goes_beside_the_files_of_the_working_folder(videos, tiny_config, tmp_path, monkeypatch):
    """``avssl pretrain ..`` from a folder with files of one's own."""
    shutil.copytree(videos, tmp_path / "v")
    work = tmp_path / "v" / "work"
    work.mkdir()
    mine = {"manifest.csv": "id,path,label\na,../clip01.mp4,dog\n", "config.yaml": "# my settings\n"}
    for name, text in mine.items():
        (work / name).write_text(text)
    monkeypatch.chdir(work)
    path, _ = pretrain(tiny_config("..", optim={"epochs": 1}, monitor={"every_steps": 0}), progress=False)
    assert path == Path("runs/v")
    assert {name: (work / name).read_text() for name in mine} == mine
    for overwrite in (False, True):
        with pytest.raises(RunDirectoryError, match=r"holds other files \(config.yaml\)"):
            pretrain(tiny_config(".."), out=".", overwrite=overwrite, progress=False)
    assert {name: (work / name).read_text() for name in mine} == mine


# ---------------------------------------------------------------- one process at a time


def test_a_second_process_on_a_run_is_an_error_at_once(run, videos, tiny_config, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "copy")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    with RunDirectory(tmp_path / "copy").claimed("pretrain", resume=True):
        for words in (["--resume", str(tmp_path / "copy")], [str(videos), "-o", str(tmp_path / "copy"), "--overwrite"]):
            assert main(["pretrain", *words]) == 1
            assert re.search(rf"copy: process {os.getpid()} on .* is writing it", capsys.readouterr().err)
    left = {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert before.items() <= left.items()
    assert main(["pretrain", "--resume", str(tmp_path / "copy")]) == 0


def test_files_that_a_user_put_into_a_run_are_never_removed(run, videos, tiny_config, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    for name in ("notes.txt", "weights/thesis.txt", "checkpoints/best of all.pt", "tensorboard/mine/log"):
        path = tmp_path / "copy" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        with pytest.raises(RunDirectoryError, match=rf"holds other files \({name}\)"):
            pretrain(tiny_config(videos), out=tmp_path / "copy", overwrite=True, progress=False)
        assert path.read_text() == "mine"
        assert (tmp_path / "copy" / "config.yaml").is_file()
        path.unlink()


# ---------------------------------------------------------------- damaged files


def torn(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def run_with_best(videos, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr("avssl.training.rows.MIN_GALLERY", 4)
    config = tiny_config(videos, monitor={"every_steps": 2, "num_clips": 4, "held_out_fraction": 0.3})
    path, _ = pretrain(config, out=tmp_path / "run", progress=False)
    assert (path / "weights_best" / "model.safetensors").is_file()
    return path


@pytest.mark.parametrize("damage", [torn, lambda path: path.write_bytes(b"")])
def test_a_torn_best_checkpoint_does_not_stop_a_finished_run(run_with_best, damage):
    damage(run_with_best / "checkpoints" / "best.pt")
    before = (run_with_best / "weights_best" / "model.safetensors").read_bytes()
    run_config = RunDirectory(run_with_best).read_config()
    with pytest.warns(UserWarning, match=r"best.pt is damaged.*weights_best are those of an earlier end"):
        pretrain(run_config, resume=run_with_best, progress=False)
    assert (run_with_best / "weights_best" / "model.safetensors").read_bytes() == before
    shutil.rmtree(run_with_best / "weights_best")
    with pytest.warns(UserWarning, match=r"best.pt is damaged.*weights_best are not written"):
        pretrain(run_config, resume=run_with_best, progress=False)
    assert (run_with_best / "weights" / "model.safetensors").is_file()


@pytest.mark.parametrize("damage", [torn, Path.unlink])
def test_a_damaged_best_checkpoint_is_written_anew_by_a_run_that_goes_on(run_with_best, damage):
    (run_with_best / "checkpoints" / "step-000000008.pt").unlink()
    damage(run_with_best / "checkpoints" / "best.pt")
    with pytest.warns(UserWarning, match=r"best.pt.* The next measurement writes it anew"):
        pretrain(RunDirectory(run_with_best).read_config(), resume=run_with_best, progress=False)
    assert load_checkpoint(run_with_best / "checkpoints" / "best.pt")["step"] == 8


def test_a_torn_last_checkpoint_falls_back_to_the_one_before(run_with_best):
    torn(run_with_best / "checkpoints" / "step-000000008.pt")
    with pytest.warns(UserWarning, match=r"step-000000008.pt is damaged.*Trying the previous checkpoint"):
        _, result = pretrain(RunDirectory(run_with_best).read_config(), resume=run_with_best, progress=False)
    assert result.step == 8
    assert load_checkpoint(run_with_best / "checkpoints" / "step-000000008.pt")["step"] == 8


# ---------------------------------------------------------------- settings that a resume may change


def test_a_resume_may_lower_the_rate_and_the_run_says_so(run, tmp_path, capsys):
    path = tmp_path / "copy"
    shutil.copytree(run, path)
    (path / "checkpoints" / "step-000000008.pt").unlink()
    words = ["pretrain", "--resume", str(path)]
    assert main([*words, "--optim.epochs", "9"]) == 2
    assert "a resumed run keeps its settings, except --data.source" in capsys.readouterr().err
    assert main([*words, "--optim.lr", "1e-5", "--optim.grad-clip", "1", "--optim.weight-decay", "0.5"]) == 0
    assert "changes     optim.lr from 0.001 to 1e-05, after step 6" in capsys.readouterr().out
    config = RunDirectory(path).read_config()
    assert (config.optim.lr, config.optim.grad_clip, config.optim.weight_decay) == (1e-5, 1.0, 0.5)
    assert [row["lr"] < 1e-4 for row in read_metrics(path)] == 6 * [False] + 2 * [True]
    noted = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    assert {(note["setting"], note["old"], note["new"], note["step"]) for note in noted} == {
        ("optim.lr", 0.001, 1e-05, 6),
        ("optim.weight_decay", 0.05, 0.5, 6),
        ("optim.grad_clip", None, 1.0, 6),
    }
    saved = load_checkpoint(path / "checkpoints" / "step-000000008.pt")["optimizer"]["param_groups"]
    assert {group["weight_decay"] for group in saved} == {0.0, 0.5}
    assert main(words) == 0  # the changed settings are the run's now
    assert len((path / "history.jsonl").read_text().splitlines()) == 3
