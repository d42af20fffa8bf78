"""Run a suite: check everything, make the baselines, measure cell after cell, and write the tables after each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from avssl.config.command import Verb
from avssl.core.cpus import decoding_workers
from avssl.core.errors import RunError
from avssl.core.manifest import read_manifest
from avssl.core.output_records import Command
from avssl.core.outputs import FolderKind, claimed_folder
from avssl.engine import choose_device
from avssl.features.extract import extract_features
from avssl.hub.pretrained import from_pretrained
from avssl.recipes.benchmark.cells import Cell, How, finished, make_cell, run_cell
from avssl.recipes.benchmark.checks import Work, check_suite, only_named
from avssl.recipes.benchmark.models import (
    RANDOM,
    SUPERVISED,
    Model,
    load_models,
    random_model,
    supervised_commands,
    supervised_model,
)
from avssl.recipes.benchmark.protocols import PROTOCOLS
from avssl.recipes.benchmark.suite import Suite, read_suite
from avssl.recipes.benchmark.table import FILES, Results, as_text, write_tables

_KIND = FolderKind("a benchmark", (*FILES, "cells/**/*", "models/**/*", "features/*.npz"))
_SAMPLE_ROWS = 8
_BACKWARD = 3
"""Cost of a training step in forward passes."""


def run_benchmark(
    path: Path | str,
    checkpoints: Sequence[str],
    how: How,
    *,
    only: tuple[str, ...],
    dry_run: bool,
    overwrite: bool,
    progress: bool,
) -> Results | None:
    """Run :func:`avssl.recipes.benchmark.benchmark`."""
    suite = only_named(read_suite(path), only)
    models = load_models(checkpoints)
    work = check_suite(suite, checkpoints[0], how)
    if suite.supervised is not None:
        for words in supervised_commands(suite, from_pretrained(checkpoints[0]), how).values():
            Verb("finetune", PROTOCOLS["finetune"].verb.path).parse(words)
    if dry_run:
        _print_plan(suite, models, work, how)
        return None
    reads = (str(path), *checkpoints)
    with claimed_folder(how.out, Command.of("benchmark"), _KIND, overwrite=overwrite, reads=reads) as claim:
        claim.adopt()
        for cell in [] if overwrite else _cells(suite, models, how):
            finished(cell)  # numbers of other commands are an error before anything is measured
        models = [*models, *_baselines(suite, checkpoints[0], how, overwrite=overwrite, progress=progress)]
        results = _measure(suite, models, how, overwrite=overwrite, progress=progress)
    print(as_text(results))
    print(f"tables: {', '.join(str(how.out / name) for name in FILES)}")
    if results.failures:
        first, reason = next(iter(results.failures.items()))
        raise RunError(
            f"{len(results.failures)} of {len(results.cells)} cells have no number; the first is {' / '.join(first)}: "
            f"{reason} The same command tries them again."
        )
    return results


def _cells(suite: Suite, models: Sequence[Model], how: How) -> list[Cell]:
    """Return all cells, all models of a protocol in turn."""
    return [
        make_cell(suite, data, entry, model, how)
        for data in suite.data
        for entry in data.entries
        for model in models
        if model.has_joint_space or not PROTOCOLS[entry.protocol].needs_joint_space
    ]


def _baselines(suite: Suite, like: str, how: How, *, overwrite: bool, progress: bool) -> list[Model]:
    (how.out / "models").mkdir(parents=True, exist_ok=True)
    models = []
    if suite.fields.random_init:
        models.append(random_model(like, how, suite.fields.seed))
    if suite.supervised is not None:
        _say("baseline    supervised classifiers are trained, one of video and one of audio")
        models.append(supervised_model(suite, like, how, overwrite=overwrite, progress=progress))
    return models


def _measure(suite: Suite, models: Sequence[Model], how: How, *, overwrite: bool, progress: bool) -> Results:
    results = Results(suite.fields.title or suite.path.stem, str(suite.path), models)
    cells = _cells(suite, models, how)
    for number, cell in enumerate(cells, start=1):
        start = time.monotonic()
        known = None if overwrite else finished(cell)
        if known is not None:
            results.add(cell, known)
            state = "is there"
        else:
            found = run_cell(cell, suite, how, overwrite=overwrite, progress=progress)
            results.add(cell, found)
            state = f"no number: {found}" if isinstance(found, str) else f"{time.monotonic() - start:.0f} s"
        _say(f"{number:>4}/{len(cells)}  {cell.data.name} / {cell.entry.name} / {cell.model.name}: {state}")
        write_tables(how.out, results)
    return results


# ---------------------------------------------------------------- dry run


def _print_plan(suite: Suite, models: Sequence[Model], work: Mapping[tuple[str, str], Work], how: How) -> None:
    """Print the cells with their commands, and the expected time."""
    names = [model.name for model in models]
    baselines = [RANDOM] * suite.fields.random_init + [SUPERVISED] * (suite.supervised is not None)
    seconds = 0.0
    for data in suite.data:
        window = _window_seconds(data.fields.manifest, models[0].checkpoint, how)
        known: set[str] = set()
        for entry in data.entries:
            part = work[data.name, entry.name]
            count = len(models) + len(baselines)
            if PROTOCOLS[entry.protocol].needs_joint_space:
                count -= suite.supervised is not None
            windows = 0 if part.shared in known else part.windows
            known |= {part.shared} - {""}
            seconds += count * window * (windows + _BACKWARD * part.training)
            print(f"{data.name} / {entry.name}: {count} models")
            for model in models:
                print(f"    {make_cell(suite, data, entry, model, how).command}")
    print(f"models: {', '.join([*names, *baselines])}")
    print(f"expected: about {max(1, round(seconds / 60))} min; dry run: nothing was written")


def _window_seconds(manifest: str, checkpoint: str, how: How) -> float:
    """Return the time to read and encode one window of the first rows, which must be readable."""
    rows = read_manifest(how.root / manifest)
    rows = rows.select(np.arange(min(_SAMPLE_ROWS, len(rows))))
    pretrained = from_pretrained(checkpoint, choose_device(how.device))
    start = time.monotonic()
    found = extract_features(pretrained, rows)
    return (time.monotonic() - start) / len(found.ids) / max(1, decoding_workers(how.num_workers))


def _say(text: str) -> None:
    print(text, flush=True)
