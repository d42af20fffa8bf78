"""The course of a run: fold after fold, and of each fold precision, training, test and files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from avssl.config import FinetuneConfig
from avssl.core import distributed
from avssl.core.manifest import Manifest
from avssl.core.whole_file import write_json
from avssl.data.splits.labels import Fold, choose_fold
from avssl.downstream.finetuning.fold import FoldRows, finish_fold, fold_folder, judge, read_result
from avssl.downstream.finetuning.results import summarize
from avssl.downstream.finetuning.start import Started, begin
from avssl.downstream.finetuning.training import train_classifier
from avssl.engine import choose_device
from avssl.training.setup import choose_precision, fitting_batch_size, sample_batch

_Config = TypeVar("_Config", bound=FinetuneConfig)
RunFold = Callable[[Started[Any], Fold, torch.device], Started[Any]]
"""Trains, tests and writes one fold, by :func:`run_fold`; gives back what it resolved."""


def run_folds(
    config: FinetuneConfig,
    out: Path | str,
    name: str,
    run_one: RunFold,
    *,
    fold: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Runs every fold that is not done, and writes the numbers of all.

    Args:
        config: Every setting.
        out: The run folder.
        name: Of the protocol.
        run_one: What a fold does.
        fold: Only this one.
        resume: Continue the run in ``out``.
        overwrite: Replace an earlier run in ``out``.

    Returns:
        The run folder, and what its ``results.json`` holds.
    """
    device = distributed.start(choose_device(config.train.device))
    try:
        started = begin(config, out, device, resume=resume, overwrite=overwrite)
        for one in choose_fold(started.folds, fold):
            if read_result(started.run, one.name) is None:
                started = run_one(started, one, device)
            distributed.barrier()
        results = [read_result(started.run, one.name) for one in started.folds]
        summary = summarize(started, name, [result for result in results if result is not None])
        if distributed.is_main():
            write_json(started.run.path / "results.json", summary)
        say(f"results: {started.run.path / 'results.json'}")
        say(f"of each fold: weights, report.html and more in {started.run.path / 'folds'}")
        return started.run.path, summary
    finally:
        distributed.stop()


def run_fold(
    started: Started[_Config],
    fold: Fold,
    rows: FoldRows,
    task: nn.Module,
    device: torch.device,
    *,
    progress: bool = True,
    more: Callable[[_Config], dict[str, Any]] = lambda config: {},
) -> Started[_Config]:
    """Trains a task's classifier, tests it and writes what the fold leaves.

    Args:
        started: The run.
        fold: Which one.
        rows: Its rows.
        task: With the classifier in ``model`` and its preprocessing in ``transform``.
        device: Where it runs.
        progress: Show bars.
        more: Further values of the result, from the resolved settings; every rank calls it.

    Returns:
        The run, its settings resolved.
    """
    asked: Any = started.config
    optim = replace(asked.optim, batch_size=fitting_batch_size(asked.optim.batch_size, len(rows.train)))
    config = _with_precision(replace(asked, optim=optim), task, rows.train, device)
    model: Any = task.model
    count = sum(parameter.numel() for parameter in model.parameters())
    learned, tested = len(rows.train), len(rows.test)
    say(f"fold {fold.name}: {learned} rows to learn from, {tested} to test on, {count / 1e6:.3g} M parameters")
    if fold.num_unlabeled_train or fold.num_unlabeled_test:
        without = f"{fold.num_unlabeled_train} training and {fold.num_unlabeled_test} test rows"
        say(f"  {without} have no usable label: none, or several where one is asked for")
    resolved = replace(started, config=replace(config, optim=asked.optim))  # the next fold may have more rows
    if distributed.is_main():
        resolved.run.write_config(resolved.config)  # before a step is taken: a resume must not time formats anew
    folder = fold_folder(started.run, fold.name)
    trained = train_classifier(task, rows.train, config, folder, device=device, progress=progress)
    transform: Any = task.transform
    judged = judge(model, transform, rows, config, device, progress)
    further = more(config)
    if distributed.is_main():
        finish_fold(replace(started, config=config), fold, rows, model, transform, trained, judged, further)
    if len(started.folds) > 1:  # of one alone the table follows
        say("  " + ", ".join(f"{name} {100 * value:.1f}" for name, value in judged.numbers.items()))
    return resolved


def _with_precision(config: _Config, task: nn.Module, manifest: Manifest, device: torch.device) -> _Config:
    """The settings with number format and memory layout decided; every rank measures, rank 0's counts."""
    if "auto" not in (config.train.precision, config.train.memory_format):
        return config
    network = config.network()
    sample = sample_batch(network, manifest, config.classifier.inputs)
    precision = distributed.broadcast_object(choose_precision(network, task, sample, device)[0])
    train = replace(config.train, precision=precision.name, memory_format=precision.memory_format)
    result: Any = replace(config, train=train)
    return result


def say(text: str) -> None:
    """Prints, on one rank."""
    if distributed.is_main():
        print(text, flush=True)
