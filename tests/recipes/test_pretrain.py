import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from avssl.cli import main
from avssl.config import ConfigError, load_config, to_yaml
from avssl.core.manifest import Manifest, ManifestError, read_manifest, write_table
from avssl.data.ledger import TooManyBadFiles
from avssl.engine import Interruption, load_checkpoint, read_metrics
from avssl.engine.precision import LAYOUTS
from avssl.features.familiarity import check_familiarity
from avssl.hub.pretrained import from_pretrained
from avssl.media import open_media
from avssl.recipes.pretrain import pretrain
from avssl.training.run_directory import RunDirectoryError, default_directory
from avssl.training.tasks import PretrainTask

CLOCKS = {"wall_seconds", "samples_per_second"}


def weights(run):
    return load_file(run / "weights" / "model.safetensors")


def metrics(run):
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in read_metrics(run)]


def assert_same_run(one, other):
    ours, theirs = weights(one), weights(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert metrics(one) == metrics(other)


def avssl(*words, prefix=("-m", "avssl"), **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *prefix, "pretrain", *map(str, words)], env=environment, **options)


# ---------------------------------------------------------------- what a run leaves


def test_run_directory_is_complete(run, videos):
    for name in ("environment.json", "tensorboard", "checkpoints/step-000000008.pt", "weights/README.md"):
        assert (run / name).exists(), name
    assert [row["step"] for row in metrics(run)] == list(range(1, 9))
    assert "retrieval/v2a_R@1" in metrics(run)[4]
    config = load_config(run / "config.yaml")
    assert config.data.source == str(videos.resolve())
    assert (config.train.precision, config.train.threads) == ("fp32", 1)
    assert len(read_manifest(run / "manifest.csv", videos)) == 20
    assert (run / "dropped_files.csv").read_text().count("\n") == 1  # the header


def test_source_folder_is_not_changed(run, videos):
    assert sorted(path.name for path in videos.iterdir()) == [f"clip{number:02d}.mp4" for number in range(20)]


def test_release_of_a_run_loads_and_embeds(run):
    pretrained = from_pretrained(run)
    assert pretrained.transform.standardize.is_ready
    assert pretrained.model.embed_audio(torch.zeros(1, 1, 50, 16)).shape == (1, 8)


def test_release_knows_the_training_clips(videos, tiny_config, tmp_path):
    """Statistics that tell foreign videos are stored beside the weights, if there are rows enough."""
    folder = shutil.copytree(videos, tmp_path / "v")
    names = [f"clip{number % 20:02d}.mp4" for number in range(40)]
    ids = [f"{name}#{number}" for number, name in enumerate(names)]
    Manifest.from_columns({"id": ids, "path": names}, folder).write(folder / "manifest.csv")
    config = tiny_config(folder / "manifest.csv", optim={"epochs": 1}, monitor={"every_steps": 0})
    path, _ = pretrain(config, out=tmp_path / "run", progress=False)
    pretrained = from_pretrained(path)
    assert set(pretrained.worlds[0].streams) == {"video", "audio"}
    with open_media(videos / "clip00.mp4") as reader:
        found = check_familiarity(reader, pretrained)
    assert [each.is_foreign for each in found.domains] == [False, False]
    assert found.sound.num_others > 0


def test_a_small_corpus_leaves_no_statistics(run):
    assert from_pretrained(run).worlds == ()


def test_loss_falls(videos, tiny_config, tmp_path):
    config = tiny_config(videos, optim={"epochs": 20, "lr": 0.003}, train={"log_every": 10}, monitor={"every_steps": 0})
    pretrain(config, out=tmp_path / "run", progress=False)
    losses = [row["loss"] for row in metrics(tmp_path / "run")]
    assert losses[-1] < losses[0] - 0.5


def test_a_run_on_a_tar_is_that_on_its_files(videos, tiny_config, tmp_path):
    files = sorted(videos.iterdir())
    with tarfile.open(tmp_path / "clips.tar", "w") as tar:
        for file in files:
            tar.add(file, file.name)
    folder = shutil.copytree(videos, tmp_path / "v")
    columns = {"id": [f"clips.tar/{file.name}" for file in files], "path": [file.name for file in files]}
    Manifest.from_columns(columns, folder).write(folder / "manifest.csv")
    for name, source in (("tar", tmp_path / "clips.tar"), ("files", folder / "manifest.csv")):
        config = tiny_config(source, optim={"epochs": 1}, monitor={"every_steps": 0})
        pretrain(config, out=tmp_path / name, progress=False)
    assert_same_run(tmp_path / "tar", tmp_path / "files")
    assert len(read_manifest(tmp_path / "tar" / "manifest.csv", tmp_path)) == 20


# ---------------------------------------------------------------- resume


def test_sigterm_saves_and_ends_with_the_status_for_requeue(run, videos, tiny_config, tmp_path):
    (tmp_path / "config.yaml").write_text(to_yaml(tiny_config(videos)))
    out = tmp_path / "run"
    process = avssl("--config", tmp_path / "config.yaml", "--out", out, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (out / "checkpoints" / "step-000000002.pt").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=300)
    assert process.returncode in (75, 0)  # 0: it had begun its last step
    assert process.returncode == 0 or "avssl: stopped by SIGTERM after step" in told
    assert main(["pretrain", "--resume", str(out)]) == 0
    assert_same_run(run, out)


@pytest.mark.filterwarnings("ignore:.* embeddings have collapsed|retrieval among held-out")  # after ten steps
def test_average_and_best_weights_are_released_and_resume_exactly(videos, tiny_config, tmp_path, monkeypatch):
    """A corpus with a val split, stopped by a signal in the middle."""
    folder = tmp_path / "v"
    shutil.copytree(videos, folder)
    names = [f"clip{number % 20:02d}.mp4" for number in range(80)]
    ids, splits = [f"{name}#{number}" for number, name in enumerate(names)], ["train", "val"] * 40
    Manifest.from_columns({"id": ids, "path": names, "split": splits}, folder).write(folder / "manifest.csv")
    config = tiny_config(
        folder / "manifest.csv",
        optim={"epochs": 2},
        monitor={"every_steps": 2, "num_clips": 40},
        train={"ema_decay": 0.9, "keep_checkpoints": 1, "checkpoint_every_steps": 3},
    )
    whole, result = pretrain(config, out=tmp_path / "whole", progress=False)
    assert result.step == 10
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == ["best.pt", "step-000000010.pt"]
    state = load_checkpoint(whole / "checkpoints" / "step-000000010.pt")
    released = weights(whole)
    for name, value in state["average"]["average"].items():
        assert torch.equal(released[f"model.{name}"], value), name
    name = "video_head.0.weight"
    assert not torch.equal(released[f"model.{name}"], state["task"][f"model.{name}"])
    best = load_checkpoint(whole / "checkpoints" / "best.pt")
    scores = {row["step"]: row["retrieval/R@10"] for row in metrics(whole) if "retrieval/R@10" in row}
    assert best["score"] == max(scores.values()) == scores[best["step"]]
    kept = from_pretrained(whole / "weights_best").model.state_dict()
    assert torch.equal(kept[name], best["task"][f"model.{name}"])

    after_step = PretrainTask.after_step

    def interrupted(task):
        after_step(task)
        task.steps = getattr(task, "steps", 0) + 1
        if task.steps == 5:
            os.kill(os.getpid(), signal.SIGUSR1)

    with monkeypatch.context() as patched:
        patched.setattr(PretrainTask, "after_step", interrupted)
        with pytest.raises(Interruption, match="SIGUSR1 after step 5"):
            pretrain(config, out=tmp_path / "parts", progress=False)
    assert not (tmp_path / "parts" / "weights").exists()
    assert main(["pretrain", "--resume", str(tmp_path / "parts")]) == 0
    assert_same_run(whole, tmp_path / "parts")


def test_resume_of_a_finished_run_changes_nothing(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    assert main(["pretrain", "--resume", str(tmp_path / "copy")]) == 0
    assert_same_run(run, tmp_path / "copy")


def test_run_killed_before_its_first_checkpoint_resumes(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for part in ("checkpoints", "weights", "tensorboard"):
        shutil.rmtree(copy / part)
    assert main(["pretrain", "--resume", str(copy)]) == 0
    assert_same_run(run, copy)


def test_number_of_workers_changes_nothing(run, videos, tiny_config, tmp_path):
    pretrain(tiny_config(videos, data={"num_workers": 2}), out=tmp_path / "run", progress=False)
    assert_same_run(run, tmp_path / "run")


def test_resume_of_a_run_of_an_older_version_raises_and_says_what_to_do(run, tmp_path, capsys):
    old = tmp_path / "old"
    old.mkdir()
    settings = (run / "config.yaml").read_text()
    (old / "config.yaml").write_text(settings.replace("  epochs: 4", "  passes: 4"))
    assert main(["pretrain", "--resume", str(old)]) == 2
    told = capsys.readouterr().err
    assert "config.yaml: optim.passes is not a setting" in told
    assert "made by an older version of avssl" in told
    assert f"(git_commit in {old / 'environment.json'}), or start a new run" in told


@pytest.mark.parametrize("last", ["", "  epo"])
def test_resume_with_a_damaged_config_says_so(run, tmp_path, capsys, last):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    settings = (run / "config.yaml").read_text()
    (damaged / "config.yaml").write_text(settings[: settings.index(last)] + last)
    assert main(["pretrain", "--resume", str(damaged)]) == 2
    told = capsys.readouterr().err
    assert f"{damaged / 'config.yaml'}: " in told
    assert "start the run anew with --overwrite" in told
    assert "older version" not in told


def test_resume_from_a_checkpoint_of_an_older_format_raises(run, tmp_path, capsys):
    old = tmp_path / "old"
    shutil.copytree(run, old)
    for path in (old / "checkpoints").iterdir():
        torch.save(load_checkpoint(path) | {"format_version": 2}, path)
    assert main(["pretrain", "--resume", str(old)]) == 1
    told = capsys.readouterr().err
    assert "checkpoint format 2, but this avssl reads format 3" in told
    assert "or start a new run" in told


def test_resume_with_other_settings_raises(run, capsys):
    assert main(["pretrain", "--resume", str(run), "--optim.epochs", "5"]) == 2
    assert "--optim.epochs (5) was 4 when the run began" in capsys.readouterr().err
    assert main(["pretrain", "--resume", str(run), "--optim.lr", "5"]) == 1
    assert "is finished, so another --optim.lr would change nothing" in capsys.readouterr().err
    assert main(["pretrain", "--resume", str(run), "--out", "x"]) == 2
    assert "leave out --config, --out" in capsys.readouterr().err
    assert main(["pretrain", "--resume", "nowhere"]) == 1
    assert "no run to continue here" in capsys.readouterr().err


# ---------------------------------------------------------------- the run directory


def test_existing_run_is_kept_without_overwrite(run, videos, tiny_config, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    with pytest.raises(RunDirectoryError, match=r"--resume .*--overwrite"):
        pretrain(tiny_config(videos), out=tmp_path / "copy", progress=False)
    pretrain(tiny_config(videos, optim={"epochs": 1}), out=tmp_path / "copy", overwrite=True, progress=False)
    assert len(metrics(tmp_path / "copy")) == 2


def test_foreign_files_are_never_removed(videos, tiny_config):
    with pytest.raises(RunDirectoryError, match=r"holds other files \(clip00.mp4\)"):
        pretrain(tiny_config(videos), out=videos, overwrite=True, progress=False)
    assert len(list(videos.iterdir())) == 20


# ---------------------------------------------------------------- odd data


def test_long_files_become_segments_and_the_batch_shrinks(video_maker, tiny_config, tmp_path, caplog):
    caplog.set_level("INFO", "avssl")
    video_maker(tmp_path / "v" / "a.mp4", 0, seconds=9)
    config = tiny_config(tmp_path / "v", data={"segment_seconds": 1.0, "segment_over_seconds": 3.0})
    config.optim.batch_size, config.optim.epochs = 64, 1
    pretrain(config, out=tmp_path / "run", progress=False)
    assert "9 clips instead of 64: there are only 9 rows" in caplog.text
    assert load_config(tmp_path / "run" / "config.yaml").optim.batch_size == 9


def test_whole_videos_of_a_manifest_become_segments(video_maker, tiny_config, tmp_path, capsys):
    names = [f"long{number}.mp4" for number in range(3)]
    for number, name in enumerate(names):
        video_maker(tmp_path / "v" / name, number, 4.0)
    Manifest.from_columns({"id": names, "path": names, "label": list("abc")}, tmp_path / "v").write(
        tmp_path / "v" / "manifest.csv"
    )
    data = {"segment_seconds": 1.0, "segment_over_seconds": 3.0}
    source = tmp_path / "v" / "manifest.csv"
    with pytest.raises(ManifestError, match=r"3 usable rows.*--data\.segment-manifest true"):
        pretrain(tiny_config(source, data=data), out=tmp_path / "run", progress=False)
    config = tiny_config(source, data=data | {"segment_manifest": True}, optim={"epochs": 1})
    pretrain(config, out=tmp_path / "run", progress=False)
    rows = read_manifest(tmp_path / "run" / "manifest.csv", tmp_path / "v")
    assert rows["id"].tolist()[:2] == ["long0.mp4#0.000-1.000", "long0.mp4#1.000-2.000"]
    assert rows["label"].tolist() == [letter for letter in "abc" for _ in range(4)]


def test_too_few_rows_is_an_error_and_leaves_nothing(video_maker, tiny_config, tmp_path):
    for number in range(7):
        video_maker(tmp_path / "v" / f"{number}.mp4", number)
    with pytest.raises(ManifestError, match="7 usable rows, but at least 8 are needed"):
        pretrain(tiny_config(tmp_path / "v"), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_unusable_files_are_listed_and_capped(videos, video_maker, tiny_config, tmp_path, capsys):
    folder = tmp_path / "v"
    shutil.copytree(videos, folder)
    video_maker(folder / "silent.mp4", 0, sound=False)
    (folder / "text.mp4").write_text("no video")
    pretrain(tiny_config(folder, optim={"epochs": 1}), out=tmp_path / "run", progress=False)
    with (tmp_path / "run" / "dropped_files.csv").open() as file:
        assert {row["path"]: row["reason"] for row in csv.DictReader(file)} == {
            "silent.mp4": "no_audio",
            "text.mp4": "not_media",
        }
    assert "2 files cannot be used" in capsys.readouterr().out
    with pytest.raises(ManifestError, match=r"more than the allowed share of 0.05.*1 no_audio"):
        pretrain(tiny_config(folder, data={"max_bad_fraction": 0.05}), out=tmp_path / "other", progress=False)


def test_files_that_break_later_are_dropped_and_capped(videos, tiny_config, tmp_path):
    folder = tmp_path / "v"
    shutil.copytree(videos, folder)
    assert main(["index", str(folder)]) == 0
    for name in ("clip03.mp4", "clip05.mp4"):
        (folder / name).write_text("broken since it was indexed")
    pretrain(tiny_config(folder / "manifest.csv", optim={"epochs": 3}), out=tmp_path / "run", progress=False)
    dropped = (tmp_path / "run" / "dropped_files.csv").read_text()
    assert "clip03.mp4" in dropped
    assert "clip05.mp4" in dropped
    (folder / "clip07.mp4").unlink()
    with pytest.raises(TooManyBadFiles, match="3 of 20 rows could not be read"):
        pretrain(tiny_config(folder / "manifest.csv", optim={"epochs": 3}), out=tmp_path / "other", progress=False)


def test_only_the_split_is_trained_on(videos, tiny_config, tmp_path):
    folder = tmp_path / "v"
    shutil.copytree(videos, folder)
    main(["index", str(folder)])
    table = read_manifest(folder / "manifest.csv").table
    write_table(table.append_column("split", [["train"] * 9 + ["test"] * 11]), folder / "manifest.csv")
    config = tiny_config(folder / "manifest.csv", optim={"epochs": 1})
    pretrain(config, out=tmp_path / "run", progress=False)
    assert len(read_manifest(tmp_path / "run" / "manifest.csv", folder)) == 9
    with pytest.raises(ManifestError, match=r"data\.split: no row has split 'val'; the manifest has test, train"):
        pretrain(tiny_config(folder / "manifest.csv", data={"split": "val"}), out=tmp_path / "other", progress=False)


def test_test_clips_that_are_trained_on_are_printed(videos, tiny_config, tmp_path, capsys):
    folder = tmp_path / "v"
    shutil.copytree(videos, folder)
    shutil.copy(folder / "clip00.mp4", folder / "clip12.mp4")
    names = [f"clip{number:02d}.mp4" for number in range(20)]
    official = [f"{'abcdefghij'[number % 10] * 11}_{number // 10}" for number in range(20)]
    split = ["train"] * 12 + ["test"] * 8
    columns = {"id": names, "path": names, "split": split, "official_id": official}
    Manifest.from_columns(columns, folder).write(folder / "manifest.csv")
    (tmp_path / "vggss_test.csv").write_text("ccccccccccc_000000\nzzzzzzzzzzz_000000\n")
    config = tiny_config(folder / "manifest.csv", optim={"epochs": 1})
    lists = [tmp_path / "vggss_test.csv"]
    pretrain(config, out=tmp_path / "run", dry_run=True, test_manifest=lists, progress=False)
    printed = capsys.readouterr().out
    assert "vggss_test.csv: 1 of 2 test clips (50.0 %) are trained on: 1 by name, 0 by content" in printed
    assert "overlap     split test: 1 of 8 test clips (12.5 %) are trained on: 0 by name, 1 by content" in printed
    assert "The first: clip12.mp4." in printed


def test_monitors_measure_rows_that_are_not_trained_on(videos, tiny_config, tmp_path, capsys):
    folder = tmp_path / "v"
    shutil.copytree(videos, folder)
    names = [f"clip{number % 20:02d}.mp4" for number in range(80)]
    columns = {
        "id": [f"{name}#{number}" for number, name in enumerate(names)],
        "path": names,
        "split": ["val" if number % 2 else "train" for number in range(80)],
        "label": ["ab"[number // 2 % 2] for number in range(80)],
    }
    Manifest.from_columns(columns, folder).write(folder / "manifest.csv")
    config = tiny_config(
        folder / "manifest.csv", optim={"epochs": 1}, monitor={"every_steps": 5, "num_clips": 40, "probe_clips": 20}
    )
    out, _ = pretrain(config, out=tmp_path / "run", progress=False)
    assert "40 rows that training never sees" in capsys.readouterr().out
    held_out = read_manifest(out / "held_out.csv", folder)
    assert set(held_out["split"]) == {"val"}
    assert set(read_manifest(out / "manifest.csv", folder)["split"]) == {"train"}
    last = metrics(out)[-1]
    assert (last["retrieval/held_out"], last["retrieval/gallery_size"]) == (1, 40)
    assert {"alignment", "modality_gap", "retrieval_shuffled/R@1", "uniformity/audio", "rank/video"} <= last.keys()
    assert 0 <= last["probe/video_accuracy"] <= 1
    shutil.rmtree(out / "checkpoints")
    assert main(["pretrain", "--resume", str(out)]) == 0  # finds the gallery again
    assert metrics(out)[-1] == last


def test_no_source_or_a_missing_source_raises(tiny_config, tmp_path, capsys):
    assert main(["pretrain"]) == 2
    assert "name a folder of videos or a manifest" in capsys.readouterr().err
    with pytest.raises(ManifestError, match="no such folder or manifest"):
        pretrain(tiny_config(tmp_path / "none"), out=tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match="name a folder"):
        pretrain(tiny_config(""), out=tmp_path / "run", progress=False)


# ---------------------------------------------------------------- before the first step


def test_precision_is_measured_and_written_to_the_config(videos, tiny_config, tmp_path, capsys):
    config = tiny_config(videos, optim={"epochs": 1}, train={"precision": "auto", "memory_format": "auto"})
    config.train.checkpoint_every_steps = None
    pretrain(config, out=tmp_path / "run", progress=False)
    resolved = load_config(tmp_path / "run" / "config.yaml").train
    assert resolved.precision in ("fp32", "bf16")
    assert resolved.memory_format in LAYOUTS
    assert resolved.checkpoint_every_steps >= 1
    text = capsys.readouterr().out
    for word in ("20 rows", "2 steps of", "M parameters", "the fastest here", "about"):
        assert word in text


def test_dry_run_prints_the_cost_and_writes_nothing(videos, tiny_config, tmp_path, monkeypatch, capsys):
    (tmp_path / "config.yaml").write_text(to_yaml(tiny_config(videos, train={"ema_decay": 0.9})))
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in videos.iterdir())
    assert main(["pretrain", str(videos), "--config", "config.yaml", "--dry-run"]) == 0
    text = capsys.readouterr().out
    for word in (
        "20 rows",
        "M parameters",
        "GFLOP per step",
        "MiB",
        "clips per second",
        "8 steps of",
        "nothing was written",
    ):
        assert word in text, word
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]
    assert sorted(path.name for path in videos.iterdir()) == before
    assert not any(Path(os.environ["XDG_CACHE_HOME"]).iterdir())


def test_dry_run_plans_a_cluster(videos, tiny_config, tmp_path, monkeypatch, capsys):
    objective = {"name": "cma", "num_negatives": 8, "num_positives": 4, "positive_negatives": 4}
    config = to_yaml(tiny_config(videos, objective=objective, optim={"batch_size": 4096}))
    (tmp_path / "config.yaml").write_text(config)
    monkeypatch.chdir(tmp_path)
    command = ["pretrain", str(videos), "--config", "config.yaml", "--world-size", "64"]
    assert main(command) != 0
    assert "--dry-run" in capsys.readouterr().err
    plan = ["--dry-run", "--num-rows", "2000000", "--step-seconds", "0.5", "--optim.epochs", "10"]
    assert main([*command, *plan]) == 0
    text = capsys.readouterr().out
    steps = 10 * (2_000_000 // 4096)
    for words in (
        f"64 processes of 64 clips: batches of 4096, 2000000 rows, {steps} steps",
        "1 collectives of the objective",
        "1 searches, exact, as set: ",
        "1 searches, 32 of 5657 lists (ivf): ",
        f"{0.5 * steps / 3600:.3g} h: {steps} steps of 0.5 s, as given",
        "cores",
    ):
        assert words in text, words
    # Two banks of 2 M rows in float32, and the numbers of files, ids and positives of each row.
    width = load_config(tmp_path / "config.yaml").model.head.out_features
    banks = float(re.search(r"([0-9.]+) (?:MiB|GiB) for banks", text)[1])
    assert banks * 2**20 == pytest.approx(2_000_000 * (2 * 4 * width + 4 * 8 + 5 * 8), rel=0.01)
    # Divided: the numbers of files, ids, and a part of the rest, which is fetched.
    assert main([*command, *plan, "--objective.sharded", "true"]) == 0
    text = capsys.readouterr().out
    banks = float(re.search(r"([0-9.]+) (?:MiB|GiB) for banks and queues \(divided\)", text)[1])
    assert banks * 2**20 == pytest.approx(2_000_000 * ((2 * 4 * width + 4 * 8) / 64 + 5 * 8), rel=0.01)
    assert "7 collectives of the objective" in text
    assert main([*command[:-1], "3", *plan]) != 0
    assert "multiple of world_size (3)" in capsys.readouterr().err


def test_statistics_are_estimated_from_the_training_audio(run):
    standardize = from_pretrained(run).transform.standardize
    assert torch.isfinite(standardize.mean).all()
    assert (standardize.std > 0).any()
    assert json.loads((run / "environment.json").read_text())["rows"] == 20


def test_default_directory_is_named_after_the_source():
    assert default_directory("/data/videos") == Path("runs/videos")
    assert default_directory("corpus/manifest.csv") == Path("runs/corpus")
    assert default_directory("corpus/small.csv") == Path("runs/small")
    assert default_directory("s3://bucket/corpus/manifest.csv") == Path("runs/corpus")
    assert default_directory("s3://bucket/manifest.csv", "-finetune") == Path("runs/bucket-finetune")
    assert default_directory("/") == Path("runs/run")


@pytest.mark.parametrize("ending", ["", "-finetune"])
def test_default_directory_is_that_of_the_folder_itself(tmp_path, monkeypatch, ending):
    """However the folder is written; folders whose names have dots stay apart."""
    for name in ("d.1", "d.2", "videos"):
        (tmp_path / name / "work").mkdir(parents=True)
        (tmp_path / name / "manifest.csv").write_text("")
        (tmp_path / name / "list.v2.csv").write_text("")
    (tmp_path / "link").symlink_to("videos")
    monkeypatch.chdir(tmp_path / "videos" / "work")
    names = {
        "videos": ("..", "../", "../.", "../manifest.csv", "../../link", "../../link/manifest.csv", "../../videos//"),
        "work": (".", "./", "../work"),
        "d.1": ("../../d.1", "../../d.1/", "../../d.1/manifest.csv", "../../d.1/work/.."),
        "d.2": ("../../d.2",),
        "list.v2": ("../list.v2.csv",),
    }
    for name, sources in names.items():
        for source in sources:
            assert default_directory(source, ending) == Path("runs") / (name + ending), source


# ---------------------------------------------------------------- several processes


def test_two_processes_equal_one_with_whole_models_and_with_shards(videos, tiny_config, tmp_path, torchrun):
    """20 steps of losses, gradient norms and all weights, at the same global batch."""
    config = tiny_config(
        videos,
        model={"head": {"name": "mlp"}},  # without batch statistics
        optim={"name": "sgd", "lr": 0.02, "epochs": 10},
        train={"batch_norm": "eval", "checkpoint_every_steps": 20},
        monitor={"every_steps": 0},
    )
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    pretrain(config, out=tmp_path / "one", progress=False)
    sharded = ("--train.parallel", "fsdp", "--train.activation-checkpointing", "block")
    for name, words in (("two", ()), ("sharded", sharded)):
        run = tmp_path / name
        torchrun("-m", "avssl", "pretrain", "--config", tmp_path / "config.yaml", "--out", run, *words)
        one, two = metrics(tmp_path / "one"), metrics(run)
        assert len(one) == len(two) == 20
        for ours, theirs in zip(one, two, strict=True):
            assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)
            assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-4)
            assert theirs["samples_seen"] == ours["samples_seen"]
        ours, theirs = weights(tmp_path / "one"), weights(run)  # of the releases
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            torch.testing.assert_close(theirs[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_a_divided_memory_is_saved_in_parts_and_continued(videos, tiny_config, tmp_path, torchrun):
    """By as many processes bit for bit; one process starts from it too."""
    options = {"num_negatives": 8, "num_positives": 4, "positive_negatives": 4, "warmup_epochs": 1, "refresh_epochs": 1}
    changes = {"train": {"checkpoint_every_steps": 3}, "monitor": {"every_steps": 0}, "optim": {"epochs": 2}}
    config = tiny_config(videos, objective={"name": "cma", "sharded": True, **options}, **changes)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    run, again = tmp_path / "run", tmp_path / "again"
    torchrun("-m", "avssl", "pretrain", "--config", tmp_path / "config.yaml", "--out", run)
    last = run / "checkpoints" / "step-000000004"
    assert len(list(last.glob("*.safetensors"))) == 2
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / last.name)
    torchrun("-m", "avssl", "pretrain", "--resume", again)
    assert_same_run(run, again)
    saved, other = (load_checkpoint(path / "checkpoints" / last.name)["task"] for path in (run, again))
    for name, value in saved.items():  # z is NaN with softmax
        torch.testing.assert_close(other[name], value, rtol=0, atol=0, equal_nan=True, msg=name)
    assert saved["objective.bank.video"].shape[0] == saved["objective.found"].shape[0] == 20
    one = tiny_config(videos, objective={"name": "avid", "num_negatives": 8}, **changes | {"optim": {"epochs": 1}})
    one = replace(one, train=replace(one.train, init_from=str(run)))
    assert pretrain(one, out=tmp_path / "one", progress=False)[1].step == 2


def test_silence_and_noise_resume_bit_for_bit(videos, tiny_config, assert_resumes_bit_for_bit):
    assert_resumes_bit_for_bit(tiny_config(videos, objective={"negative_sounds": 4}))
