import json
import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

import avssl
from avssl.cli import main
from avssl.config import ConfigError, DistillConfig, load_config
from avssl.core.manifest import Manifest, ManifestError, read_manifest
from avssl.engine import Interruption, load_checkpoint
from avssl.hub.release import HubError
from avssl.recipes.distill import distill, settings
from avssl.recipes.finetune import finetune
from avssl.training.tasks import DistillTask

FAST = {
    "data": {"num_workers": 0},
    "model": {"video": {"width": 2}},
    "optim": {"batch_size": 6, "epochs": 3},
    "test": {"report": False},
    "train": {"device": "cpu", "threads": 1, "log_every": 1, "checkpoint_every_steps": 2},
}


@pytest.fixture(scope="module")
def teacher(labeled_clips, finetuning, tmp_path_factory):
    """Fine-tuned on two labels of each class, in two splits."""
    config = finetuning(
        labeled_clips, labels={"split_column": ["split1", "split2"], "per_class": 2}, optim={"epochs": 8}
    )
    path, _ = finetune(config, out=tmp_path_factory.mktemp("teacher") / "run", progress=False)
    return path


@pytest.fixture(scope="module")
def student(labeled_clips, teacher, tmp_path_factory):
    config = settings(labeled_clips, teacher, FAST)
    return distill(config, out=tmp_path_factory.mktemp("student") / "run", progress=False)


def merged(changes):
    return {name: {**FAST.get(name, {}), **changes.get(name, {})} for name in {**FAST, **changes}}


def test_student_is_reported_beside_its_teacher(student, teacher):
    path, summary = student
    assert summary["protocol"]["name"] == "distillation"
    theirs = json.loads((teacher / "results.json").read_text())
    for fold, of_teacher in zip(summary["folds"], theirs["folds"], strict=True):
        assert fold["n_train"] == 15  # the labels of nine of them were never seen
        assert fold["n_test"] == of_teacher["n_test"] == 9
        assert fold["teacher"]["numbers"] == pytest.approx(of_teacher["numbers"])
        assert fold["teacher"]["parameters"] == of_teacher["parameters"]
        assert fold["parameters"] < of_teacher["parameters"] / 2
    assert avssl.load_classifier(path / "folds" / "fold-split1").classes == ["middle", "narrow", "wide"]


def test_a_folder_of_class_folders_is_divided_as_for_the_teacher(finetuning, video_maker, tmp_path):
    for number in range(12):
        video_maker(tmp_path / "videos" / "ab"[number % 2] / f"{number}.mp4", number)
    config = finetuning(tmp_path / "videos", labels={"split_shares": [0.5, 0.0, 0.5]}, optim={"epochs": 1})
    teacher, (of_teacher,) = (lambda path, summary: (path, summary["folds"]))(
        *finetune(config, out=tmp_path / "teacher", progress=False)
    )
    tree = merged({"optim": {"epochs": 1}, "distill": {"rows": "all"}})
    _, summary = distill(settings(tmp_path / "videos", teacher, tree), out=tmp_path / "student", progress=False)
    (fold,) = summary["folds"]
    assert (fold["n_train"], fold["n_test"]) == (6, 6)
    for part in ("train_clip_list", "test_clip_list"):
        assert fold[part] == of_teacher[part]


def test_checkpoints_hold_the_student_alone(student, teacher):
    state = load_checkpoint(next((student[0] / "folds" / "fold-split1" / "checkpoints").glob("step-*.pt")))
    count = sum(value.numel() for name, value in state["task"].items() if name.startswith("model."))
    theirs = load_file(teacher / "folds" / "fold-split1" / "weights" / "model.safetensors")
    assert count < sum(value.numel() for name, value in theirs.items() if name.startswith("model.")) / 2
    assert not any("target" in name or "teacher" in name for name in state["task"])


def test_command_line_trains_on_rows_without_labels(labeled_clips, teacher, tmp_path, capsys):
    folder = tmp_path / "v"
    shutil.copytree(labeled_clips.parent, folder)
    manifest = read_manifest(folder / "manifest.csv")
    more = {"id": ["more.mp4"], "path": ["clip00.mp4"], "split1": ["train"], "split2": ["train"]}
    columns = {name: [*manifest[name], *more.get(name, [None])] for name in manifest.table.column_names}
    Manifest.from_columns(columns, folder).write(folder / "manifest.csv")
    words = ["distill", str(folder / "manifest.csv"), "--teacher", str(teacher), "--out", str(tmp_path / "run")]
    words += ["--fold", "split1", "--distill.rows", "rest", "--model.video.width", "2", "--data.num_workers", "0"]
    words += ["--optim.epochs", "1", "--optim.batch_size", "4", "--train.device", "cpu", "--test.report", "false"]
    assert main(words) == 0
    assert "of the student" in capsys.readouterr().out
    config = load_config(tmp_path / "run" / "config.yaml", DistillConfig)
    assert config.labels.per_class == 2
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [fold["n_train"] for fold in result["folds"]] == [10]  # 16 less the six with a label


def test_labels_are_those_that_the_teacher_had(labeled_clips, teacher, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(DistillTask, "on_epoch_start", lambda task, number: seen.append(task.targets.clone()))
    config = settings(labeled_clips, teacher, merged({"distill": {"teacher_weight": 0.5}, "optim": {"epochs": 1}}))
    distill(config, out=tmp_path / "run", fold="split1", progress=False)
    assert sorted(seen[0].tolist()) == [-1] * 9 + [0, 0, 1, 1, 2, 2]


def test_interrupted_distillation_continues_bit_for_bit(student, labeled_clips, teacher, tmp_path, monkeypatch):
    config, out = settings(labeled_clips, teacher, FAST), tmp_path / "parts"

    def on_epoch_start(task, number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGUSR1)

    with monkeypatch.context() as patched:
        patched.setattr(DistillTask, "on_epoch_start", on_epoch_start)
        with pytest.raises(Interruption, match="step 3"):
            distill(config, out=out, progress=False)
    assert main(["distill", "--resume", str(out)]) == 0
    for fold in ("split1", "split2"):
        ours, theirs = (
            load_file(p / "folds" / f"fold-{fold}" / "weights" / "model.safetensors") for p in (student[0], out)
        )
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": {"num_frames": 2}}, r"sampling.num_frames \(2\) must be the teacher's"),
        (
            {"transform": {"spectrogram": {"num_mels": 8}}},
            r"spectrogram.num_mels \(8\) must be the teacher's",
        ),
        ({"labels": {"per_class": 1}}, r"labels.per_class \(1\) must be the teacher's, 2"),
    ],
)
def test_settings_that_differ_from_the_teachers_raise(labeled_clips, teacher, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        distill(settings(labeled_clips, teacher, merged(changes)), out=tmp_path / "run", progress=False)


def test_teachers_that_do_not_fit_raise(labeled_clips, teacher, finetuning, tmp_path, capsys):
    assert main(["distill", str(labeled_clips)]) == 2
    assert "required: --teacher" in capsys.readouterr().err
    assert main(["distill", str(labeled_clips), "--teacher", str(tmp_path)]) == 2
    assert "not a run directory of avssl finetune" in capsys.readouterr().err
    copy = tmp_path / "copy"
    shutil.copytree(teacher, copy)
    shutil.rmtree(copy / "folds" / "fold-split1" / "weights")
    with pytest.raises(HubError, match="fold-split1"):
        distill(settings(labeled_clips, copy, FAST), out=tmp_path / "a", progress=False)
    everything, _ = finetune(finetuning(labeled_clips, optim={"epochs": 1}), out=tmp_path / "all", progress=False)
    config = settings(labeled_clips, everything, merged({"distill": {"rows": "rest"}}))
    with pytest.raises(ManifestError, match="the teacher was trained on all 15 training rows"):
        distill(config, out=tmp_path / "b", progress=False)
