import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import avssl
from avssl.cli import main
from avssl.config import ConfigError, FinetuneConfig, load_config, parse_settings, to_yaml
from avssl.core.manifest import Manifest, ManifestError, read_manifest
from avssl.data.ledger import TooManyBadFiles
from avssl.downstream.finetuning import summary_text
from avssl.engine import Checkpointer, Interruption, Precision, load_checkpoint, read_metrics
from avssl.engine.precision import LAYOUTS
from avssl.evaluation.reliability import calibration_numbers
from avssl.evaluation.video_scores import video_probabilities
from avssl.hub.pretrained import from_pretrained
from avssl.hub.release import HubError
from avssl.recipes.finetune import finetune
from avssl.training.setup import PrecisionChoice
from avssl.training.tasks import ClassifyTask

CLASSES = ("middle", "narrow", "wide")


@pytest.fixture(scope="module")
def finished(labeled_clips, tmp_path_factory, finetuning):
    """A run of two folds from random weights, with all that it leaves."""
    config = finetuning(labeled_clips, labels={"split_column": ["split1", "split2"]}, test={"report": True})
    return finetune(config, out=tmp_path_factory.mktemp("runs") / "two", progress=False)


def weights(run, fold):
    return load_file(run / "folds" / f"fold-{fold}" / "weights" / "model.safetensors")


def without_clocks(result):
    return {name: value for name, value in result.items() if name != "wall_seconds"}


def assert_same_run(one, other, folds=("split1", "split2")):
    for fold in folds:
        ours, theirs = weights(one, fold), weights(other, fold)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        results = [json.loads((run / "folds" / f"fold-{fold}" / "results.json").read_text()) for run in (one, other)]
        assert without_clocks(results[0]) == without_clocks(results[1])


# ---------------------------------------------------------------- what a run leaves


def test_results_of_two_splits(finished, labeled_clips):
    path, summary = finished
    assert summary == json.loads((path / "results.json").read_text())
    assert [fold["fold"] for fold in summary["folds"]] == ["split1", "split2"]
    first, second = summary["folds"]
    assert (first["n_train"], first["n_test"]) == (15, 9)
    assert (second["n_train"], second["n_test"]) == (15, 9)
    assert (first["epochs"], first["steps"], first["samples_seen"]) == (4, 8, 48)
    assert first["unreadable_test"] == 0
    assert first["numbers"]["chance"] == pytest.approx(1 / 3)
    assert first["numbers"]["largest_class"] == pytest.approx(3 / 9)
    values = [fold["numbers"]["top1"] for fold in summary["folds"]]
    assert summary["mean"]["top1"] == pytest.approx(np.mean(values))
    assert summary["sd"]["top1"] == pytest.approx(np.std(values, ddof=1))
    about = summary["protocol"]
    assert (about["num_classes"], about["clips"], about["folds"], about["checkpoint"]) == (3, 2, "2 of 2", "none")


def test_predictions_are_plain_arrays_that_give_the_numbers(finished):
    path, summary = finished
    with np.load(path / "folds" / "fold-split1" / "predictions.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    assert arrays["logits"].shape == (9, 2, 3)
    assert arrays["ids"].tolist() == [f"clip{number:02d}.mp4" for number in range(15, 24)]
    assert arrays["classes"].tolist() == sorted(CLASSES)
    softmax = np.exp(arrays["logits"]) / np.exp(arrays["logits"]).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(softmax.mean(axis=1), arrays["scores"], rtol=1e-5)
    hits = arrays["scores"].argmax(axis=1) == arrays["targets"]
    assert hits.mean() == pytest.approx(summary["folds"][0]["numbers"]["top1"])


def test_the_other_files_of_a_fold(finished):
    folder = finished[0] / "folds" / "fold-split1"
    for name in ("checkpoints/step-000000008.pt", "metrics.jsonl", "report.html", "weights/README.md"):
        assert (folder / name).exists(), name
    assert [row["step"] for row in read_metrics(folder)] == list(range(1, 9))
    assert {"loss", "accuracy", "lr"} <= read_metrics(folder)[0].keys()
    assert (folder / "dropped_files.csv").read_text().count("\n") == 1  # the header


def test_the_release_gives_the_same_predictions(finished, labeled_clips):
    from avssl.core.manifest import read_manifest
    from avssl.downstream.finetuning import predict

    folder = finished[0] / "folds" / "fold-split1"
    loaded = avssl.load_classifier(folder)
    assert loaded.classes == sorted(CLASSES)
    test = read_manifest(labeled_clips).where(split1="test")
    with np.load(folder / "predictions.npz") as file:
        stored = file["logits"]
    for rows, batch_size in ((test, 32), (test, 1), (test.select(np.array([4, 1])), 3)):
        config = replace(loaded.config, test=replace(loaded.config.test, batch_size=batch_size))
        again = predict(loaded.model, loaded.transform, rows, config, device=torch.device("cpu"))
        expected = stored if len(rows) == len(test) else stored[[4, 1]]
        np.testing.assert_array_equal(again.logits, expected)  # bit for bit, whatever else is read
    with pytest.raises(HubError, match=r"classifier release.*avssl.load_classifier"):
        from_pretrained(folder)


def test_the_classifier_beats_chance(labeled_clips, tmp_path, finetuning):
    config = finetuning(labeled_clips, optim={"epochs": 10}, train={"checkpoint_every_steps": 100})
    path, summary = finetune(config, out=tmp_path / "run", progress=False)
    losses = [row["loss"] for row in read_metrics(path / "folds" / "fold-split")]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:2])
    assert summary["mean"]["top1"] > 0.5  # chance is a third
    assert summary["sd"]["top1"] is None


# ---------------------------------------------------------------- from a checkpoint


def test_command_line_from_a_checkpoint(labeled_clips, run, tmp_path, capsys):
    words = ["finetune", str(labeled_clips), "--checkpoint", str(run), "--out", str(tmp_path / "run")]
    words += [
        "--data.num_workers",
        "0",
        "--optim.epochs",
        "2",
        "--optim.batch_size",
        "6",
        "--test.windows_per_clip",
        "1",
        "--test.report",
        "false",
    ]
    assert main([*words, "--labels.per-class", "4", "--train.device", "cpu", "--optim.head_epochs", "1"]) == 0
    assert "mean_per_class" in capsys.readouterr().out
    config = load_config(tmp_path / "run" / "config.yaml", FinetuneConfig)
    assert config.sampling == from_pretrained(run).config.sampling
    assert (config.model.video.options()["width"], config.labels.per_class) == (4, 4)
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    assert result["folds"][0]["n_train"] == 12
    assert result["folds"][0]["steps"] == 3 * 2


def test_encoders_and_statistics_are_the_checkpoints(labeled_clips, run, tmp_path, monkeypatch, finetuning):
    seen = {}
    monkeypatch.setattr(ClassifyTask, "on_epoch_start", lambda task, number: seen.setdefault(number, _copy(task)))
    config = finetuning(labeled_clips, run, optim={"head_epochs": 2, "epochs": 1}, classifier={"inputs": "both"})
    finetune(config, out=tmp_path / "run", progress=False)
    theirs = from_pretrained(run)
    for modality in ("video", "audio"):
        encoder = getattr(theirs.model, f"{modality}_encoder")
        for name, value in encoder.named_parameters():
            key = f"model.encoders.{modality}.{name}"
            assert torch.equal(seen[0][key], value)
            assert torch.equal(seen[2][key], value), "while the classifier learns alone"
        head = f"model.heads.{modality}.weight"
        assert not torch.equal(seen[2][head], seen[0][head])
    assert torch.equal(seen[0]["transform.standardize.mean"], theirs.transform.standardize.mean)
    moved = seen[2]["model.encoders.video.stem.1.running_mean"]
    assert not torch.equal(moved, seen[0]["model.encoders.video.stem.1.running_mean"]), "statistics move"


def test_layers_of_the_head_are_the_checkpoints(labeled_clips, run, tmp_path, monkeypatch, finetuning):
    seen = {}
    monkeypatch.setattr(ClassifyTask, "on_epoch_start", lambda task, number: seen.setdefault(number, _copy(task)))
    tree = {"optim": {"epochs": 1}, "classifier": {"from_head_layer": 1}, "loss": {"name": "cosine_softmax"}}
    path, _ = finetune(finetuning(labeled_clips, run, **tree), out=tmp_path / "run", progress=False)
    head = from_pretrained(run).model.video_head
    assert torch.equal(seen[0]["model.projections.video.0.weight"], head[0].weight)
    (release,) = (path / "folds").glob("*/weights")
    classifier = avssl.load_classifier(release)
    assert classifier.model.projections["video"].depth == 1
    assert classifier.model.heads["video"].bias is None
    assert not torch.equal(classifier.model.projections["video"][0].weight, head[0].weight)  # it is fine-tuned
    config = finetuning(labeled_clips, run, classifier={"from_head_layer": 4})
    with pytest.raises(ConfigError, match=r"from_head_layer \(4\): the projection head of .* has 3 layers"):
        finetune(config, out=tmp_path / "other", progress=False)
    config = finetuning(labeled_clips, run, classifier={"from_head_layer": 1}, model={"head": {"hidden": 9}})
    with pytest.raises(ConfigError, match=r"model.head is .*hidden 9.* holds weights of"):
        finetune(config, out=tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()


def _copy(task):
    return {name: value.clone() for name, value in task.state_dict().items()}


@pytest.mark.parametrize("fusion", ["late", "fused"])
def test_both_modalities(labeled_clips, run, tmp_path, fusion, finetuning):
    config = finetuning(labeled_clips, run, classifier={"inputs": "both", "fusion": fusion, "frozen_batch_norm": True})
    _, summary = finetune(config, out=tmp_path / "run", progress=False)
    assert summary["protocol"]["inputs"] == "both"


def test_random_weights_have_no_statistics_to_freeze(labeled_clips, tmp_path, finetuning):
    config = finetuning(labeled_clips, classifier={"frozen_batch_norm": True})
    with pytest.raises(ConfigError, match="frozen_batch_norm needs a checkpoint"):
        finetune(config, out=tmp_path / "run", progress=False)


def test_weights_of_another_encoder_raise(labeled_clips, run, tmp_path, finetuning):
    config = finetuning(labeled_clips, run, model={"video": {"width": 8}})
    with pytest.raises(ConfigError, match=r"model.video is small_video \(width 8.* holds weights .*\(width 4"):
        finetune(config, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    config = finetuning(labeled_clips, run, model={"video": {"width": 8}}, classifier={"inputs": "audio"})
    finetune(config, out=tmp_path / "run", progress=False)  # its video encoder is not used


def test_a_missing_checkpoint_raises(labeled_clips, capsys):
    assert main(["finetune", str(labeled_clips)]) == 2
    assert "required: --checkpoint" in capsys.readouterr().err
    assert main(["finetune", "--checkpoint", "none"]) == 2
    assert "name a manifest" in capsys.readouterr().err


# ---------------------------------------------------------------- rows and labels


def test_cross_validation_over_a_column(labeled_clips, tmp_path, finetuning):
    config = finetuning(labeled_clips, labels={"fold_column": "fold"}, optim={"epochs": 1})
    path, summary = finetune(config, out=tmp_path / "run", fold="2", progress=False)
    assert summary["protocol"]["folds"] == "1 of 2"
    assert [(fold["fold"], fold["n_train"], fold["n_test"]) for fold in summary["folds"]] == [("2", 12, 12)]
    _, summary = finetune(load_config(path / "config.yaml", FinetuneConfig), resume=path, progress=False)
    assert [fold["fold"] for fold in summary["folds"]] == ["1", "2"]
    with pytest.raises(ManifestError, match="no fold '3'; there are 1, 2"):
        finetune(config, out=tmp_path / "other", fold="3", progress=False)


def test_multi_label(labeled_clips, tmp_path, finetuning):
    config = finetuning(
        labeled_clips, labels={"label_column": "two", "multi_label": True, "fold_column": "fold"}, optim={"epochs": 1}
    )
    _, summary = finetune(config, out=tmp_path / "run", fold="1", progress=False)
    assert set(summary["mean"]) == {"mAP", "clip_mAP", "chance"}
    assert summary["protocol"]["num_classes"] == 5
    assert summary["mean"]["chance"] == pytest.approx((3 * (1 / 3) + 2 * 0.5) / 5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"label_column": "unknown"}, "the class 'tall' has no training row, but 1 test rows"),
        ({"fold_column": "by_class"}, "fold a: the class 'wide' has no training row, but 8 test rows"),
        ({"fold_column": "empty"}, "24 of 24 rows have no fold"),
        ({"fold_column": "session"}, "no column 'session'"),
        ({"split_column": ["split3"]}, "no column 'split3'"),
        ({"test_split": "val"}, "no row has split 'val'; the manifest has test, train"),
        ({"label_column": "empty"}, "none of the 15 training rows has exactly one label"),
        ({"label_column": "two"}, "none of the 15 training rows has exactly one label"),
        ({"per_class": 6}, "6 labels per class, but the class 'middle' has only 5 rows"),
        ({"label_column": "rare", "per_class": 1}, "class 'rare'"),
        (
            {"label_column": "two", "multi_label": True, "fold_column": "fold", "fraction": 0.1},
            r"fold 1: 1 of 12 labeled rows leave no training row to 3 classes, the first is 'late'",
        ),
    ],
)
def test_rows_that_cannot_be_used_raise(labeled_clips, tmp_path, labels, message, finetuning):
    if labels.get("label_column") == "rare":
        labels = labels | {"split_column": ["split2"]}
    with pytest.raises(ValueError, match=message):
        finetune(finetuning(labeled_clips, labels=labels), out=tmp_path / "run", progress=False)


def test_rows_without_a_usable_label_are_counted(labeled_clips, tmp_path, finetuning, caplog):
    caplog.set_level("INFO", logger="avssl")
    config = finetuning(labeled_clips, labels={"label_column": "gaps"}, optim={"epochs": 1})
    _, summary = finetune(config, out=tmp_path / "run", progress=False)
    result = summary["folds"][0]
    assert (result["n_train"], result["n_test"]) == (13, 8)
    assert (result["unlabeled_train"], result["unlabeled_test"]) == (2, 1)
    assert "2 training and 1 test rows have no usable label" in caplog.text
    assert "1 test rows have no usable label and are left out" in summary_text(summary)


def test_unreadable_rows_are_failures_and_never_zeros(labeled_clips, tmp_path, finetuning):
    folder = tmp_path / "v"
    shutil.copytree(labeled_clips.parent, folder)
    for name in ("clip03.mp4", "clip20.mp4"):
        (folder / name).write_text(f"broken: {name}")  # equal files would be one recording
    config = finetuning(folder / "manifest.csv", optim={"epochs": 2})
    path, summary = finetune(config, out=tmp_path / "run", progress=False)
    result = summary["folds"][0]
    assert (result["n_test"], result["unreadable_test"], result["unreadable_train"]) == (8, 1, 1)
    dropped = (path / "folds" / "fold-split" / "dropped_files.csv").read_text()
    assert "clip03.mp4" in dropped
    assert "clip20.mp4" in dropped


def test_nan_features_are_an_error(labeled_clips, run, tmp_path, finetuning):
    copy = tmp_path / "copy"
    shutil.copytree(run / "weights", copy)
    from safetensors.torch import save_file

    tensors = load_file(copy / "model.safetensors")
    tensors["model.video_encoder.stem.0.weight"].fill_(1e38)  # finite, but no feature is
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(RuntimeError, match="loss became NaN between steps 0 and 1"):
        finetune(finetuning(labeled_clips, copy), out=tmp_path / "run", progress=False)


# ---------------------------------------------------------------- resume


def stop_in_second_epoch(monkeypatch):
    """Sends a signal when a fold's second pass begins."""
    start = ClassifyTask.on_epoch_start

    def on_epoch_start(task, number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        start(task, number)

    monkeypatch.setattr(ClassifyTask, "on_epoch_start", on_epoch_start)


def test_interrupted_between_folds_and_within_one_equals_the_whole(
    finished, labeled_clips, tmp_path, monkeypatch, finetuning
):
    """A signal in the second pass of each fold, and a resume after each."""
    config = finetuning(labeled_clips, labels={"split_column": ["split1", "split2"]})
    stop_in_second_epoch(monkeypatch)
    out = tmp_path / "parts"
    with pytest.raises(Interruption, match="step 3"):
        finetune(config, out=out, progress=False)
    # A resume begins within the pass, goes on to the end of the fold and is stopped in the next one.
    with pytest.raises(Interruption, match="step 3"):
        finetune(load_config(out / "config.yaml", FinetuneConfig), resume=out, progress=False)
    assert (out / "folds" / "fold-split1" / "results.json").is_file()
    assert main(["finetune", "--resume", str(out)]) == 0
    assert_same_run(finished[0], out)


def test_killed_run_continues(finished, labeled_clips, tmp_path, finetuning):
    config = finetuning(labeled_clips, labels={"split_column": ["split1", "split2"]})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    out = tmp_path / "killed"
    code = "\n".join(
        [
            "import os, signal, sys",
            "from avssl.training.tasks import ClassifyTask",
            "from avssl.cli import main",
            "epochs = []",
            "def start(task, number):",
            "    epochs.append(number)",
            "    if len(epochs) == 6: os.kill(os.getpid(), signal.SIGKILL)",
            "ClassifyTask.on_epoch_start = start",
            "main(sys.argv[1:])",
        ]
    )
    words = ["finetune", "--config", str(tmp_path / "config.yaml"), "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (out / "folds" / "fold-split1" / "results.json").is_file()
    assert not (out / "folds" / "fold-split2" / "results.json").is_file()
    assert main(["finetune", "--resume", str(out)]) == 0
    assert_same_run(finished[0], out)


def test_resume_with_other_settings_raises(finished, capsys):
    assert main(["finetune", "--resume", str(finished[0]), "--optim.epochs", "5"]) == 2
    assert "--optim.epochs (5) was 4 when the run began" in capsys.readouterr().err
    assert main(["finetune", "--resume", str(finished[0]), "--optim.lr", "5"]) == 1
    assert "is finished, so another --optim.lr would change nothing" in capsys.readouterr().err


def test_a_resume_may_lower_the_rates_of_encoders_and_classifier(labeled_clips, tmp_path, finetuning, capsys):
    """Stopped in the first fold; the changed rates hold from there on and are written down."""
    config, out = finetuning(labeled_clips, labels={"split_column": ["split1", "split2"]}), tmp_path / "run"
    save = Checkpointer.save

    def stop_after_2(checkpointer, step, state):
        save(checkpointer, step, state)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpointer, "save", stop_after_2)
        with pytest.raises(KeyboardInterrupt):
            finetune(config, out=out, progress=False)
    words = ["--optim.lr", "1e-3", "--optim.head-lr", "5e-3", "--train.log-every", "2"]
    assert main(["finetune", "--resume", str(out), *words]) == 0
    assert "changes optim.lr from 0.01 to 0.001, after step 2 of fold split1" in capsys.readouterr().out
    noted = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert {(note["fold"], note["setting"], note["new"]) for note in noted} == {
        ("split1", "optim.lr", 1e-3),
        ("split1", "optim.head_lr", 5e-3),
        ("split1", "train.log_every", 2),
    }
    for fold in ("split1", "split2"):
        last = sorted((out / "folds" / f"fold-{fold}" / "checkpoints").glob("step-*.pt"))[-1]
        groups = load_checkpoint(last)["optimizer"]["param_groups"]
        assert {group["lr_scale"] for group in groups} == {5.0, 1.0}


@pytest.mark.parametrize("content", ["", '{"fold": '])
def test_a_torn_result_of_a_fold_is_made_again(finished, tmp_path, caplog, content):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    (out / "folds" / "fold-split2" / "results.json").write_text(content)
    _, summary = finetune(load_config(out / "config.yaml", FinetuneConfig), resume=out, progress=False)
    assert "results.json is damaged" in caplog.text
    assert [fold["numbers"] for fold in summary["folds"]] == [fold["numbers"] for fold in finished[1]["folds"]]


def test_precision_is_timed_and_kept(labeled_clips, tmp_path, finetuning):
    config = finetuning(labeled_clips, optim={"epochs": 1}, train={"precision": "auto", "memory_format": "auto"})
    path, _ = finetune(config, out=tmp_path / "run", progress=False)
    resolved = load_config(path / "config.yaml", FinetuneConfig).train
    assert resolved.precision in ("fp32", "bf16")
    assert resolved.memory_format in LAYOUTS


def test_precision_is_not_timed_again_by_a_resume(labeled_clips, tmp_path, monkeypatch, finetuning):
    config = finetuning(labeled_clips, train={"precision": "auto", "memory_format": "auto"})
    timed = []

    def choose(*arguments):
        timed.append(arguments)
        return PrecisionChoice(Precision("fp32", "channels_last"), 0.0, "")

    monkeypatch.setattr("avssl.downstream.finetuning.driver.choose_precision", choose)
    stop_in_second_epoch(monkeypatch)
    with pytest.raises(Interruption):
        finetune(config, out=tmp_path / "run", progress=False)
    assert main(["finetune", "--resume", str(tmp_path / "run")]) == 0
    assert len(timed) == 1


# ---------------------------------------------------------------- several processes


def test_two_processes_equal_one_whole_in_shards_and_resumed(labeled_clips, run, tmp_path, finetuning, torchrun):
    """Weights and the numbers of a fold, with class weights, at the same global batch."""
    config = finetuning(
        labeled_clips,
        run,
        labels={"split_column": ["split1"]},
        optim={"name": "sgd", "lr": 0.02},
        classifier={"dropout": 0.0, "frozen_batch_norm": True, "class_weights": "balanced", "inputs": "both"},
        train={"memory_format": "contiguous"},
    )
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    torchrun(Path(__file__).with_name("finetune_ranks.py"), tmp_path)
    _, one = finetune(config, out=tmp_path / "one", progress=False)
    (ours,), expected = one["folds"], weights(tmp_path / "one", "split1")
    for name in ("two", "sharded"):
        (theirs,) = json.loads((tmp_path / name / "results.json").read_text())["folds"]
        assert theirs["numbers"] == ours["numbers"]
        assert theirs["samples_seen"] == ours["samples_seen"]
        assert theirs["parameters"] == ours["parameters"]
        found = weights(tmp_path / name, "split1")
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6, msg=f"{name}: {key}")
    assert_same_run(tmp_path / "sharded", tmp_path / "resumed", ["split1"])


# ---------------------------------------------------------------- a folder of class folders


@pytest.fixture(scope="module")
def class_folders(tmp_path_factory, video_maker):
    """Three class folders of six videos."""
    folder = tmp_path_factory.mktemp("classes") / "videos"
    for number in range(18):
        label = CLASSES[number % 3]
        video_maker(folder / label / f"{number}.mp4", 7 * (number // 3) + 3 * (number % 3))
    return folder


def test_a_folder_of_class_folders_needs_nothing_else(class_folders, tmp_path, finetuning, caplog):
    caplog.set_level("INFO", logger="avssl")
    config = finetuning(class_folders, optim={"epochs": 1}, labels={"split_shares": [0.5, 0.17, 0.33]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClassifyTask, "on_epoch_start", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            finetune(config, out=tmp_path / "run", progress=False)
    path, summary = finetune(
        load_config(tmp_path / "run" / "config.yaml", FinetuneConfig), resume=tmp_path / "run", progress=False
    )
    (result,) = summary["folds"]
    assert (result["n_train"], result["n_test"], summary["protocol"]["unusable_files"]) == (9, 6, 0)
    assert avssl.load_classifier(path).classes == sorted(CLASSES)
    assert "3 classes" in caplog.text
    assert not list(class_folders.glob("*.csv"))


def _interrupt(task, number):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"split_shares": [0.5, 0.5, 0.5]}}, "which sum to 1"),
        ({"labels": {"unknown_classes": ["middle", "wide"]}}, "there is one class, narrow, and a classifier needs two"),
    ],
)
def test_class_folders_that_cannot_be_used_are_errors_before_training(
    class_folders, tmp_path, finetuning, changes, message
):
    with pytest.raises(ValueError, match=message):
        finetune(finetuning(class_folders, **changes), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "config.yaml").exists()


# ---------------------------------------------------------------- calibration and unknown classes


@pytest.fixture(scope="module")
def calibrated(class_folders, tmp_path_factory, finetuning):
    """A run with validation rows and a class that is held out."""
    config = finetuning(
        class_folders,
        labels={"split_shares": [0.4, 0.3, 0.3], "unknown_classes": ["wide"]},
        test={"report": True, "unknown_score": "probability"},
        optim={"epochs": 2},
    )
    return finetune(config, out=tmp_path_factory.mktemp("runs") / "calibrated", progress=False)


def test_validation_rows_calibrate_and_the_release_predicts_as_the_test_did(calibrated):
    path, summary = calibrated
    (result,) = summary["folds"]
    about, folder = result["calibration"], path / "folds" / "fold-split"
    assert (result["n_train"], about["n_val"], result["n_test"]) == (4, 4, 4)
    classifier = avssl.load_classifier(path)
    assert classifier.classes == ["middle", "narrow"]
    assert classifier.calibration.temperature == about["temperature"] != 1
    with np.load(folder / "predictions.npz") as file:
        logits, scores, targets = file["logits"], file["scores"], file["targets"]
    np.testing.assert_array_equal(classifier.probabilities(logits), scores)
    assert about["after"] == calibration_numbers(scores, targets)
    plain = video_probabilities(logits)
    assert about["before"] == calibration_numbers(plain, targets)
    assert (plain.argmax(axis=1) == scores.argmax(axis=1)).all()
    assert result["numbers"]["top1"] == (plain.argmax(axis=1) == targets).mean()
    assert about["chance"]["nll"] == pytest.approx(np.log(2))


def test_unknown_classes_are_never_trained_on_and_told_by_both_scores(calibrated):
    path, summary = calibrated
    unknown = summary["folds"][0]["unknown"]
    assert (unknown["classes"], unknown["n_known"], unknown["n_unknown"]) == (["wide"], 4, 6)
    assert unknown["chance"] == {"auroc": 0.5, "fpr95": 0.95}
    for name in ("energy", "probability"):
        assert 0 <= unknown[name]["auroc"] <= 1
    classifier = avssl.load_classifier(path)
    assert (classifier.calibration.unknown_score, classifier.calibration.unknown_threshold) == (
        "probability",
        unknown["threshold"],
    )
    with np.load(path / "folds" / "fold-split" / "predictions.npz") as file:
        assert classifier.is_unknown(file["logits"]).sum() == unknown["n_known_lost"]
    text = summary_text(summary)
    assert "temperature" in text
    assert "energy AUROC" in text
    page = (path / "folds" / "fold-split" / "report.html").read_text()
    for words in ("reliability diagram", "equal probabilities", "FPR at 95 % TPR", "6 clips of the classes wide"):
        assert words in page


def test_without_validation_rows_the_temperature_is_1(finished):
    result = finished[1]["folds"][0]["calibration"]
    assert (result["temperature"], result["n_val"]) == (1.0, 0)
    assert "no validation rows" in result["reason"]
    assert result["before"] == result["after"]
    assert "temperature 1: there are no validation rows" in summary_text(finished[1])


def test_several_labels_are_calibrated_class_by_class(labeled_clips, tmp_path, finetuning):
    manifest = read_manifest(labeled_clips)
    splits = ["val" if row % 5 == 0 else "test" if row % 5 == 1 else "train" for row in range(len(manifest))]
    source = labeled_clips.parent / "several.csv"
    columns = {name: list(manifest[name]) for name in ("id", "path", "two")}
    Manifest.from_columns(columns | {"split": splits}, labeled_clips.parent).write(source)
    config = finetuning(source, labels={"label_column": "two", "multi_label": True}, optim={"epochs": 1})
    path, summary = finetune(config, out=tmp_path / "run", progress=False)
    result = summary["folds"][0]["calibration"]
    classifier = avssl.load_classifier(path)
    with np.load(path / "folds" / "fold-split" / "predictions.npz") as file:
        np.testing.assert_array_equal(classifier.probabilities(file["logits"]), file["scores"])
        assert result["after"] == calibration_numbers(file["scores"], file["targets"])
    assert classifier.calibration.temperature == result["temperature"] != 1
    with pytest.raises(ConfigError, match="unknown_classes needs one label per row"):
        finetuning(source, labels={"multi_label": True, "unknown_classes": ["wide"]})


@pytest.mark.parametrize("words", [["0.6", "0.2", "0.2"], ["0.6,0.2,0.2"], ["[0.6, 0.2, 0.2]"]])
def test_the_shares_of_the_splits_are_written_in_words(words):
    config = parse_settings({"labels.split_shares": words}, FinetuneConfig)
    assert config.labels.split_shares == (0.6, 0.2, 0.2)
    assert parse_settings({"labels.split_shares": ["none"]}, FinetuneConfig).labels.split_shares is None


# ---------------------------------------------------------------- rows without a stream


@pytest.fixture
def partly_mute(video_maker, tmp_path):
    """Writes a manifest of twelve videos of two classes, eight for training; the given numbers have no sound."""

    def write(mute):
        names = [f"{number}.mp4" for number in range(12)]
        for number, name in enumerate(names):
            video_maker(tmp_path / name, number, sound=number not in mute)
        columns = {"id": names, "path": names, "label": [*"ab"] * 6, "split": ["train"] * 8 + ["test"] * 4}
        Manifest.from_columns(columns, tmp_path).write(tmp_path / "manifest.csv")
        return tmp_path / "manifest.csv"

    return write


@pytest.mark.parametrize(
    ("mute", "message"),
    [
        ([0, 1], r"2 of 8 rows could not be read, .*data\.max_bad_fraction(.|\n)*no_audio: 2(.|\n)*inputs video"),
        ([8, 9, 10, 11], r"none of 4 test rows can be read: .*8\.mp4: audio: there is no audio stream"),
    ],
)
def test_rows_without_a_stream_are_an_error_before_training(partly_mute, finetuning, tmp_path, mute, message):
    config = finetuning(partly_mute(mute), classifier={"inputs": "both"})
    with pytest.raises((TooManyBadFiles, ValueError), match=message):
        finetune(config, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_few_rows_without_a_stream_are_a_warning_before_training(partly_mute, finetuning, tmp_path, caplog):
    config = finetuning(
        partly_mute([0, 9]), classifier={"inputs": "both"}, optim={"epochs": 1}, data={"max_bad_fraction": 0.2}
    )
    _, summary = finetune(config, out=tmp_path / "run", progress=False)
    assert "1 of 8 training rows and 1 of 4 test rows that were looked at cannot be read; the first: " in caplog.text
    assert [summary["folds"][0][f"unreadable_{part}"] for part in ("train", "test")] == [1, 1]
