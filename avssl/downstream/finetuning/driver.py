"""Run the folds one after another: resolve the precision, train, evaluate and write the files of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from avssl.config import FinetuneConfig
from avssl.core import distributed
from avssl.core.manifest import Manifest
from avssl.core.whole_file import write_json
from avssl.data.splits import Division, choose_divisions
from avssl.downstream.finetuning.calibrating import calibrate
from avssl.downstream.finetuning.fold_files import fold_directory, read_result, write_fold
from avssl.downstream.finetuning.fold_rows import FoldRows
from avssl.downstream.finetuning.prediction import evaluate
from avssl.downstream.finetuning.results import summarize
from avssl.downstream.finetuning.run import ClassifierRun, start_run
from avssl.downstream.finetuning.training import train_classifier
from avssl.engine import Checkpointer, Task, choose_device, step_of
from avssl.engine.stop_request import resumable
from avssl.models.recompute import recompute_blocks
from avssl.training.run_directory import RunDirectory
from avssl.training.setup import choose_precision, fitting_batch_size, sample_batch

_log = logging.getLogger(__name__)
_Config = TypeVar("_Config", bound=FinetuneConfig)
_NAMES = {"finetune": "fine-tuning", "distill": "distillation"}
RunFold = Callable[[ClassifierRun[Any], Division, torch.device], ClassifierRun[Any]]
"""Trains, evaluates and writes one fold with :func:`run_fold`; returns the run with its resolved settings."""


def run_folds(
    config: FinetuneConfig,
    out: Path | str,
    verb: str,
    run_one: RunFold,
    *,
    fold: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reads: Sequence[str | None] = (),
    progress: bool = True,
) -> tuple[Path, dict[str, Any]]:
    """Run every fold, or only ``fold``, unless it is done; return the run directory and the results of all."""
    directory = RunDirectory(out)
    with (
        resumable(directory.path),
        distributed.process_group(choose_device(config.train.device)) as device,
        directory.claimed(verb, overwrite=overwrite, resume=resume, reads=(config.data.source, *reads)) as claim,
    ):
        run = start_run(config, directory, device, claim, resume=resume, fold=fold, progress=progress)
        if resume and claim is not None:
            _note_changes(run)
        for division in choose_divisions(run.divisions, fold):
            if read_result(run.directory, division.name) is None:
                run = run_one(run, division, device)
            distributed.barrier()
        results = [read_result(run.directory, division.name) for division in run.divisions]
        summary = summarize(run, _NAMES[verb], [result for result in results if result is not None])
        path = run.directory.path
        if distributed.is_main():
            write_json(path / "results.json", summary)
            _log.info("results: %s", path / "results.json")
            _log.info("weights, report.html and more of each fold: %s", path / "folds")
        return path, summary


def run_fold(
    run: ClassifierRun[_Config],
    division: Division,
    rows: FoldRows,
    task: Task,
    device: torch.device,
    *,
    progress: bool = True,
    more: Callable[[_Config], dict[str, Any]] = lambda config: {},
) -> ClassifierRun[_Config]:
    """Train and evaluate the classifier of a task, write the files of the fold, and return the run, settings resolved.

    The task holds the classifier in ``model`` and its preprocessing in ``transform``. ``more`` returns further
    values of the result from the resolved settings; every rank calls it.
    """
    requested: Any = run.config
    if requested.train.activation_checkpointing == "block":
        recompute_blocks(task.model)
    optim = replace(requested.optim, batch_size=fitting_batch_size(requested.optim.batch_size, len(rows.train)))
    config = _with_precision(replace(requested, optim=optim), task, rows.train, device)
    # The next fold may have more rows, so the requested batch size is kept.
    resolved = replace(run, config=replace(config, optim=requested.optim))
    if distributed.is_main():
        _log_fold(division, rows, task.model)
        # Written before the first step, so that a resumed run does not time the precisions again.
        resolved.directory.write_config(resolved.config)
    folder = fold_directory(run.directory, division.name)
    training = train_classifier(task, rows.train, config, folder, device=device, progress=progress)
    model: Any = task.model
    transform: Any = task.transform
    evaluation = evaluate(model, transform, rows, config, device, progress)
    calibrated = calibrate(model, transform, rows, config, evaluation, device, progress)
    further = more(config)
    if distributed.is_main():
        of_fold = replace(run, config=config)
        write_fold(of_fold, division, rows, model, transform, training, evaluation, calibrated, further)
        if len(run.divisions) > 1:  # the summary of a single fold follows at once
            numbers = ", ".join(f"{name} {100 * value:.1f}" for name, value in evaluation.numbers.items())
            _log.info("  %s", numbers)
    return resolved


def _note_changes(run: ClassifierRun[Any]) -> None:
    """Write down settings that the resume changes, at the step of the fold that goes on."""
    for division in run.divisions:
        if read_result(run.directory, division.name) is None:
            checkpoints = Checkpointer(fold_directory(run.directory, division.name) / "checkpoints").files()
            step = step_of(checkpoints[-1]) if checkpoints else 0
            for name, (old, new) in run.directory.note_changes(run.config, step, division.name).items():
                _log.info("changes %s from %s to %s, after step %d of fold %s", name, old, new, step, division.name)
            return
    run.directory.note_changes(run.config, None)


def _log_fold(division: Division, rows: FoldRows, model: nn.Module) -> None:
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    counts = (division.name, len(rows.train), len(rows.test), millions)
    _log.info("fold %s: %d training rows, %d test rows, %.3g M parameters", *counts)
    train, test = len(division.unlabeled_train), len(division.unlabeled_test)
    if train or test:
        _log.info("  %d training and %d test rows have no usable label: none, or several for one class", train, test)


def _with_precision(config: _Config, task: Task, manifest: Manifest, device: torch.device) -> _Config:
    """Return the settings with number format and memory layout resolved; every rank measures, rank 0 decides."""
    if "auto" not in (config.train.precision, config.train.memory_format):
        return config
    network = config.network()
    sample = sample_batch(network, manifest, config.classifier.inputs)
    choice = distributed.broadcast_object(choose_precision(network, task, sample, device))
    _log.info("precision: %s", choice)
    precision = choice.precision
    train = replace(config.train, precision=precision.name, memory_format=precision.memory_format)
    result: Any = replace(config, train=train)
    return result
