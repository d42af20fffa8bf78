"""One fold of a run: its rows, how its classifier is judged, and what is written of it.

::

    folds/fold-split1/
    ├── checkpoints/        training state
    ├── metrics.jsonl       and tensorboard/
    ├── weights/            the release of the classifier
    ├── predictions.npz     ids, targets, and of every test video the logits of its clips and its probabilities
    ├── dropped_files.csv   rows that could not be read, in training or in the test
    ├── report.html         confusions, classes, the worst videos
    └── results.json        the numbers; written last: a fold that has it is done
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from avssl.config import FinetuneConfig
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.core.whole_file import write_json
from avssl.data.ledger import Failure, Ledger
from avssl.data.splits.label_subset import label_subset
from avssl.data.splits.labels import Fold
from avssl.downstream.finetuning.prediction import Predictions, predict
from avssl.downstream.finetuning.report import write_report
from avssl.downstream.finetuning.start import Started
from avssl.downstream.finetuning.training import Trained
from avssl.evaluation.video_scores import baseline_numbers, video_numbers, video_probabilities
from avssl.hub.classifier import save_classifier
from avssl.models import Classifier
from avssl.training.run_directory import RunDirectory
from avssl.transforms import ClipTransform


@dataclass(frozen=True, eq=False)
class FoldRows:
    """The rows of a fold and their classes."""

    train: Manifest
    """Learned from, the labels that are left."""
    train_targets: Tensor
    """Of those rows."""
    test: Manifest
    """Tested on."""
    test_targets: Tensor
    """Of those rows."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A classifier on the test rows."""

    predictions: Predictions
    """Of the rows that could be read."""
    targets: Tensor
    """Of those rows."""
    numbers: dict[str, float]
    """Accuracies or average precisions, and their baselines."""


def kept_labels(started: Started[Any], fold: Fold) -> np.ndarray:
    """int64 rows of a fold whose labels are learned from: all of its training rows, or a balanced subset.

    Raises:
        ValueError: If a class has fewer than are asked for, or of several labels a row none is left of a class.
    """
    chosen = started.config.labels
    if chosen.per_class is None and chosen.fraction is None:
        return fold.train
    # Rows with several labels have no one class to be balanced over.
    names = started.manifest[chosen.column][fold.train] if not chosen.multi_label else np.full(len(fold.train), "any")
    keep = label_subset(
        started.manifest["id"][fold.train],
        names,
        per_class=chosen.per_class,
        fraction=chosen.fraction,
        seed=chosen.subset_seed,
    )
    kept = fold.train[keep]
    if chosen.multi_label:
        lost = np.flatnonzero(~started.labels.of(kept).any(dim=0).numpy())
        if len(lost):
            raise InputError(
                f"fold {fold.name}: {len(kept)} of {len(fold.train)} labeled rows leave no training row to "
                f"{len(lost)} classes, the first is {started.labels.classes[lost[0]]!r}. Raise labels.fraction, or "
                "change labels.subset_seed."
            )
    return kept


def fold_rows(started: Started[Any], fold: Fold) -> FoldRows:
    """The rows and targets of a fold. Raises as :func:`kept_labels`."""
    train = kept_labels(started, fold)
    return FoldRows(
        started.manifest.select(train),
        started.labels.of(train),
        started.manifest.select(fold.test),
        started.labels.of(fold.test),
    )


def fold_folder(run: RunDirectory, name: str) -> Path:
    """Where a fold writes."""
    return run.path / "folds" / f"fold-{quote(name, safe='')}"


def read_result(run: RunDirectory, name: str) -> dict[str, Any] | None:
    """The numbers of a fold that is done, else None."""
    path = fold_folder(run, name) / "results.json"
    result: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return result


def judge(
    model: Classifier,
    transform: ClipTransform,
    rows: FoldRows,
    config: FinetuneConfig,
    device: torch.device,
    progress: bool = False,
) -> Judged:
    """The classifier's numbers on the test rows. Raises as :func:`~avssl.downstream.finetuning.predict`."""
    predictions = predict(model, transform, rows.test, config, device=device, progress=progress)
    targets = rows.test_targets[torch.from_numpy(predictions.rows)]
    numbers = video_numbers(predictions.logits, targets.numpy(), config.test.average)
    return Judged(predictions, targets, numbers | baseline_numbers(targets.numpy(), model.num_classes))


def finish_fold(
    started: Started[Any],
    fold: Fold,
    rows: FoldRows,
    model: Classifier,
    transform: ClipTransform,
    trained: Trained,
    judged: Judged,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes everything a fold leaves, its ``results.json`` last; to be called by one process.

    Args:
        started: The run.
        fold: Which one.
        rows: Its rows.
        model: The trained classifier.
        transform: Its preprocessing.
        trained: How the training went.
        judged: What the test said.
        more: Further values of the result.

    Returns:
        What ``results.json`` holds.
    """
    config, folder, classes = started.config, fold_folder(started.run, fold.name), started.labels.classes
    result = {
        "fold": fold.name,
        "n_train": len(rows.train),
        "n_test": len(judged.targets),
        "unlabeled_train": fold.num_unlabeled_train,
        "unlabeled_test": fold.num_unlabeled_test,
        "unreadable_train": len(trained.failures),
        "unreadable_test": len(judged.predictions.failures),
        "train_clip_list": rows.train.hash(),
        "test_clip_list": rows.test.hash(),
        "epochs": trained.plan.epochs,
        "steps": trained.result.step,
        "samples_seen": trained.result.samples_seen,
        "wall_seconds": round(trained.result.wall_seconds, 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "numbers": judged.numbers,
        **more,
    }
    save_classifier(folder / "weights", model, transform, classes, config, judged.numbers | {"fold": fold.name})
    write_dropped(folder / "dropped_files.csv", [*trained.failures, *judged.predictions.failures])
    scores = video_probabilities(judged.predictions.logits, config.test.average, config.labels.multi_label)
    _write_predictions(folder / "predictions.npz", judged, scores, classes)
    if config.test.report:
        write_report(
            folder,
            classes=classes,
            scores=scores,
            labels=judged.targets.numpy(),
            ids=judged.predictions.ids.tolist(),
            manifest=rows.test,
            title=f"{config.labels.column}, fold {fold.name}",
            numbers={name: value for name, value in result.items() if isinstance(value, int | float | str)},
            multi_label=config.labels.multi_label,
        )
    write_json(folder / "results.json", result)
    return result


def write_dropped(path: Path, failures: list[Failure]) -> None:
    """Rows that could not be read, as ``dropped_files.csv``; a header alone where there are none."""
    ledger = Ledger(max(1, len(failures)))
    ledger.add([Failure(**(vars(failure) | {"row": place})) for place, failure in enumerate(failures)])
    ledger.write(path)


def _write_predictions(path: Path, judged: Judged, scores: np.ndarray, classes: list[str]) -> None:
    np.savez(
        path,
        ids=judged.predictions.ids,
        targets=judged.targets.numpy(),
        logits=judged.predictions.logits,
        scores=scores,
        classes=np.asarray(classes),
    )
