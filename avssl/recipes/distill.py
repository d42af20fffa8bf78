"""The verb ``distill``: a small classifier from a fine-tuned one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avssl.config import (
    ConfigError,
    DistillConfig,
    FinetuneConfig,
    base_of_student,
    config_from_dict,
    read_yaml,
)
from avssl.core import distributed
from avssl.core.manifest import ManifestError
from avssl.data.splits import Division
from avssl.downstream.finetuning import (
    ClassifierRun,
    FoldRows,
    evaluate,
    fold_directory,
    fold_rows,
    run_fold,
    run_folds,
    summary_text,
    training_rows,
)
from avssl.hub.classifier import create_classifier, load_classifier
from avssl.hub.trained_classifier import TrainedClassifier
from avssl.training.build import check_options, load_public_weights
from avssl.training.run_directory import RunDirectory, default_directory
from avssl.training.tasks import DistillTask

SHORT_NAMES = {"source": "data.source", "--teacher": "distill.run"}
FIRST = (
    "out",
    "resume",
    "overwrite",
    "fold",
    "distill.teacher_weight",
    "distill.rows",
    "model.video.name",
    "model.video.width",
    "optim.lr",
    "optim.epochs",
    "optim.batch_size",
    "train.seed",
    "train.device",
)


def settings(source: Path | str, teacher: Path | str, tree: Mapping[str, Any] | None = None) -> DistillConfig:
    """Return the settings of a run: those of ``tree``, over those of the teacher, over the defaults."""
    config = config_from_dict(tree or {}, "", DistillConfig, base_settings({"distill.run": str(teacher)}))
    data = replace(config.data, source=str(source))
    return replace(config, data=data, distill=replace(config.distill, run=str(teacher)))


def distill(
    config: DistillConfig,
    *,
    out: Path | str | None = None,
    resume: Path | str | None = None,
    overwrite: bool = False,
    fold: str | None = None,
    progress: bool = True,
) -> tuple[Path, dict[str, Any]]:
    """Distill a fine-tuned classifier into a smaller one, using unlabeled clips.

    The teacher is a run of ``avssl finetune``. It predicts the class of every training row, labeled or not, and the
    student is trained on the predictions: ``avssl distill corpus/manifest.csv --teacher runs/big --model.video.width
    16``. Sampling, transform and folds are the teacher's, and so is the model unless it is set here.

    Args:
        config: Every setting; :func:`settings` makes them in Python.
        out: Run directory; default: runs/NAME-distill.
        resume: Continue the run in this directory with its own settings.
        overwrite: Replace an earlier run in the run directory.
        fold: Run only this split or fold.
        progress: Show progress bars.

    Returns:
        The run directory and the contents of its ``results.json``: as for fine-tuning, and in each fold ``teacher``
        with its ``numbers`` and ``parameters``.

    Raises:
        ConfigError: If no teacher is named, or a setting must be the teacher's and is not.
        HubError: If the teacher has no classifier of a fold.
        ManifestError: As for fine-tuning, or if the teacher has other classes, or no row is left.
    """
    if not config.distill.run:
        raise ConfigError("--teacher is required: the run directory of avssl finetune.")
    check_settings(config)
    _check_same_input(config)

    def run_one(
        run: ClassifierRun[DistillConfig], division: Division, device: torch.device
    ) -> ClassifierRun[DistillConfig]:
        teacher = load_classifier(fold_directory(RunDirectory(config.distill.run), division.name) / "weights", device)
        classes = run.labels.classes
        if teacher.classes != classes:
            raise ManifestError(
                f"the teacher has {len(teacher.classes)} classes and the manifest {len(classes)}: "
                f"they differ in {sorted(set(teacher.classes) ^ set(classes))[:3]}."
            )
        rows, task = _student(run, division, teacher)

        def teacher_result(resolved: DistillConfig) -> dict[str, Any]:
            evaluation = evaluate(teacher.model, teacher.transform, rows, resolved, device, progress)
            count = sum(parameter.numel() for parameter in teacher.model.parameters())
            about = {"numbers": evaluation.numbers, "parameters": count, "weights": teacher.weights_hash()}
            return {"teacher": about}

        return run_fold(run, division, rows, task, device, progress=progress, more=teacher_result)

    folder = resume or out or default_directory(config.data.source, "-distill")
    path, summary = run_folds(
        config,
        folder,
        "distill",
        run_one,
        fold=fold,
        resume=resume is not None,
        overwrite=overwrite,
        progress=progress,
        reads=(config.distill.run,),
    )
    if distributed.is_main():
        print(summary_text(summary))
        print(beside_teacher(summary))
    return path, summary


def beside_teacher(summary: Mapping[str, Any]) -> str:
    """Format the scores of student and teacher, one line per fold."""
    lines = []
    for fold in summary["folds"]:
        first = next(iter(fold["numbers"]))
        student, teacher = (
            f"{100 * result['numbers'][first]:.1f} ({result['parameters'] / 1e6:.3g} M parameters)"
            for result in (fold, fold["teacher"])
        )
        lines.append(f"{fold['fold']}: {first} of the student {student}, of the teacher {teacher}")
    return "\n".join(lines)


def _student(
    run: ClassifierRun[DistillConfig], division: Division, teacher: TrainedClassifier
) -> tuple[FoldRows, DistillTask]:
    """Return the rows to train on, and the task of the untrained student."""
    config, labeled = run.config, training_rows(run, division)
    train = division.all_train if config.distill.rows == "all" else np.setdiff1d(division.all_train, labeled)
    if not len(train):
        raise ManifestError(
            f"fold {division.name}: the teacher was trained on all {len(division.all_train)} training rows, so none "
            "is left. Add rows without labels, or train on all rows with --distill.rows all."
        )
    known_targets = None
    if not config.labels.multi_label:
        # The student must not see labels that the teacher did not have.
        is_known = torch.from_numpy(np.isin(train, labeled))
        known_targets = torch.where(is_known, run.labels.select(train), -1)
    rows = replace(fold_rows(run, division), train=run.manifest.select(train), train_targets=run.labels.select(train))
    model, transform = create_classifier(config, len(teacher.classes))
    load_public_weights(*model.encoders.values())
    transform.load_state_dict(teacher.transform.state_dict())
    task = DistillTask(
        transform,
        model,
        teacher.model,
        known_targets,
        temperature=config.distill.temperature,
        teacher_weight=config.distill.teacher_weight,
        multi_label=config.labels.multi_label,
    )
    return rows, task


def _teacher_config(run: str) -> FinetuneConfig:
    path = Path(run) / "config.yaml"
    if not path.exists() or "classifier" not in read_yaml(path):
        raise ConfigError(f"--teacher {run}: not a run directory of avssl finetune.")
    return RunDirectory(run).read_config(FinetuneConfig)


def base_settings(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the settings of the teacher, which the command line and its file override."""
    return base_of_student(_teacher_config(given["distill.run"])) if given.get("distill.run") else None


def check_settings(config: DistillConfig) -> None:
    """Raise the error of a setting that cannot be built."""
    check_options(config.network())


def _check_same_input(config: DistillConfig) -> None:
    """Check that teacher and student have the same input and classes."""
    theirs = _teacher_config(config.distill.run)
    same = {
        "sampling": (config.sampling, theirs.sampling),
        "transform.spectrogram": (config.transform.spectrogram, theirs.transform.spectrogram),
        "labels": (config.labels, theirs.labels),
        "classifier.inputs": (config.classifier.inputs, theirs.classifier.inputs),
    }
    for name, (ours, other) in same.items():
        _check_equal(name, ours, other)


def _check_equal(name: str, ours: Any, theirs: Any) -> None:
    """Raise an error that names the first different setting below ``name``."""
    if ours == theirs:
        return
    if is_dataclass(ours) and type(ours) is type(theirs):
        for field in fields(ours):
            _check_equal(f"{name}.{field.name}", getattr(ours, field.name), getattr(theirs, field.name))
    raise ConfigError(f"{name} ({ours}) must be the teacher's, {theirs}. Leave it out.")
