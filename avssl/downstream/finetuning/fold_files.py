"""Files of one fold.

::

    folds/fold-split1/
    ├── checkpoints/        training state
    ├── metrics.jsonl       and tensorboard/; trackers.json, the ids of the fold in other trackers
    ├── weights/            the release of the classifier
    ├── predictions.npz     ids, targets, and of every test video the logits of its clips and its probabilities
    ├── dropped_files.csv   training and test rows that could not be read
    ├── report.html         confusion matrix, reliability diagram, classes, videos with the highest loss
    └── results.json        the numbers; written last: a fold that has it is done
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from avssl.core.data_files import read_json
from avssl.core.manifest import Manifest
from avssl.core.user_files import FileError
from avssl.core.whole_file import whole_file, write_json
from avssl.data.ledger import Failure, Ledger
from avssl.data.splits import Division, Recordings
from avssl.downstream.finetuning.calibrating import Calibrated
from avssl.downstream.finetuning.fold_rows import FoldRows
from avssl.downstream.finetuning.prediction import Evaluation
from avssl.downstream.finetuning.report import write_report
from avssl.downstream.finetuning.report.clip_scores import find_rows
from avssl.downstream.finetuning.run import ClassifierRun
from avssl.downstream.finetuning.training import TrainingResult
from avssl.evaluation import mean_interval
from avssl.hub.classifier import save_classifier
from avssl.models import Classifier
from avssl.training.run_directory import RunDirectory
from avssl.transforms import ClipTransform

_LOGGER = logging.getLogger(__name__)


def fold_directory(directory: RunDirectory, name: str) -> Path:
    """Return the directory of a fold."""
    return directory.path / "folds" / f"fold-{quote(name, safe='')}"


def read_result(directory: RunDirectory, name: str) -> dict[str, Any] | None:
    """Return the results of a fold, or None if it is not done."""
    path = fold_directory(directory, name) / "results.json"
    if not path.exists():
        return None
    try:
        result: dict[str, Any] = read_json(path)
    except FileError:
        _LOGGER.warning("%s is damaged; the fold is evaluated again from its last checkpoint", path)
        return None
    return result


def write_fold(
    run: ClassifierRun[Any],
    division: Division,
    rows: FoldRows,
    model: Classifier,
    transform: ClipTransform,
    training: TrainingResult,
    evaluation: Evaluation,
    calibrated: Calibrated,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Write all files of a fold, ``results.json`` last, and return its content; called by one process.

    ``run`` has the resolved settings of this fold, and ``more`` holds further values of the result.
    """
    config, classes, folder = run.config, run.labels.classes, fold_directory(run.directory, division.name)
    predictions, targets = evaluation.predictions, evaluation.targets.numpy()
    scores = calibrated.calibration.probabilities(predictions.logits, config.test.average, config.labels.multi_label)
    result = {
        "fold": division.name,
        **_counts(rows, division, training, evaluation, calibrated),
        "train_clip_list": rows.train.hash(),
        "test_clip_list": rows.test.hash(),
        "epochs": training.length.epochs,
        "steps": training.fit.step,
        "samples_seen": training.fit.samples_seen,
        "wall_seconds": round(training.fit.wall_seconds, 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "numbers": evaluation.numbers,
        **(
            {}
            if config.labels.multi_label
            else {"top1_interval": _interval(rows.test, predictions.ids, scores, targets)}
        ),
        "calibration": calibrated.result,
        **({"unknown": calibrated.unknown} if calibrated.unknown else {}),
        **more,
    }
    save_classifier(
        folder / "weights",
        model,
        transform,
        classes,
        config,
        evaluation.numbers | {"fold": division.name},
        calibration=calibrated.calibration,
    )
    _write_dropped(folder / "dropped_files.csv", [*training.failures, *predictions.failures, *calibrated.failures])
    _write_arrays(
        folder / "predictions.npz",
        ids=predictions.ids,
        targets=targets,
        logits=predictions.logits,
        scores=scores,
        classes=np.asarray(classes),
    )
    if config.test.report:
        write_report(
            folder,
            classes=classes,
            scores=scores,
            labels=targets,
            ids=predictions.ids.tolist(),
            manifest=rows.test,
            title=f"{config.labels.label_column}, fold {division.name}",
            numbers={name: value for name, value in result.items() if isinstance(value, int | float | str)},
            multi_label=config.labels.multi_label,
            calibration=calibrated.result,
            reliability=calibrated.reliability,
            unknown=calibrated.unknown,
        )
    write_json(folder / "results.json", result)
    return result


def _counts(
    rows: FoldRows, division: Division, training: TrainingResult, evaluation: Evaluation, calibrated: Calibrated
) -> dict[str, int]:
    """Return the numbers of rows that are used, and of those that are not."""
    return {
        "n_train": len(rows.train),
        "n_test": len(evaluation.targets),
        "unlabeled_train": len(division.unlabeled_train),
        "unlabeled_test": len(division.unlabeled_test),
        "unreadable_train": len(training.failures),
        "unreadable_test": len(evaluation.predictions.failures),
        "unreadable_other": len(calibrated.failures),
    }


def _interval(test: Manifest, ids: np.ndarray, scores: np.ndarray, targets: np.ndarray) -> list[float]:
    """Return the 95 % interval of the accuracy over the recordings of the test rows."""
    recordings = Recordings(test).groups[find_rows(test, ids.tolist())]
    return list(mean_interval(scores.argmax(axis=1) == targets, recordings))


def _write_arrays(path: Path, **arrays: np.ndarray) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _write_dropped(path: Path, failures: list[Failure]) -> None:
    """Write the rows that could not be read; the header alone if there are none."""
    ledger = Ledger(max(1, len(failures)), max_bad_fraction=1.0)
    # A row may fail in training and in the test, so the rows are numbered anew.
    ledger.add([Failure(**(vars(failure) | {"row": number})) for number, failure in enumerate(failures)])
    ledger.write(path)
