"""Run a suite: check everything, make the baselines, measure cell after cell, and write the tables after each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from avssl.config.command import Verb
from avssl.core.errors import AvsslError, Interruption, RunError
from avssl.core.output_records import Command
from avssl.core.outputs import FolderKind, claimed_folder
from avssl.hub.pretrained import from_pretrained
from avssl.recipes.benchmark.cells import Cell, How, cell_folder, finished, make_cell, run_cell, seconds_taken
from avssl.recipes.benchmark.checks import check_suite, only_named
from avssl.recipes.benchmark.models import (
    SUPERVISED,
    Model,
    load_models,
    random_columns,
    random_model,
    supervised_commands,
    supervised_model,
)
from avssl.recipes.benchmark.protocols import PROTOCOLS
from avssl.recipes.benchmark.scores import Score
from avssl.recipes.benchmark.shared_features import share_features
from avssl.recipes.benchmark.suite import Suite, read_suite
from avssl.recipes.benchmark.table import FILES, Results, as_text, write_tables

_KIND = FolderKind("a benchmark", (*FILES, "cells/**/*", "models/**/*", "features/*.npz"))


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
    whole = read_suite(path)
    suite = only_named(whole, only)
    models = load_models(checkpoints)
    check_suite(suite, checkpoints[0], how)
    if suite.supervised is not None:
        for words in supervised_commands(suite, from_pretrained(checkpoints[0]), how).values():
            Verb("finetune", PROTOCOLS["finetune"].verb.path).parse(words)
    if dry_run:
        _print_plan(suite, models, how)
        return None
    reads = (str(path), *checkpoints)
    with claimed_folder(how.out, Command.of("benchmark"), _KIND, overwrite=overwrite, reads=reads) as claim:
        claim.adopt()
        for cell in [] if overwrite else _cells(suite, models, how):
            finished(cell)  # numbers of other commands are an error before anything is measured
        models = [*models, *_baselines(suite, models, how, overwrite=overwrite, progress=progress)]
        results = _measure(suite, whole, models, how, overwrite=overwrite, progress=progress)
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


def _baselines(suite: Suite, measured: Sequence[Model], how: How, *, overwrite: bool, progress: bool) -> list[Model]:
    (how.out / "models").mkdir(parents=True, exist_ok=True)
    models = []
    if suite.fields.random_init:
        columns = random_columns(measured, suite.fields.seed)
        models += [random_model(name, like, how, suite.fields.seed) for name, like in columns.items()]
    if suite.supervised is not None:
        _say("baseline    supervised classifiers are trained, one of video and one of audio")
        models.append(supervised_model(suite, measured[0].checkpoint, how, overwrite=overwrite, progress=progress))
    return models


def _measure(
    suite: Suite, whole: Suite, models: Sequence[Model], how: How, *, overwrite: bool, progress: bool
) -> Results:
    """Measure the cells of a suite; the tables have what is there of the data sets that were not named too."""
    results = Results(suite.fields.title or suite.path.stem, str(suite.path), models)
    others = [each for each in whole.data if each not in suite.data and (how.root / each.fields.manifest).is_file()]
    for cell in _cells(replace(whole, data=tuple(others)), models, how):
        if (scores := finished(cell)) is not None:
            results.add(cell, scores)
    cells = _cells(suite, models, how)
    done = [None if overwrite else finished(cell) for cell in cells]
    for number, (cell, known) in enumerate(zip(cells, done, strict=True), start=1):
        start = time.monotonic()
        if known is not None:
            results.add(cell, known)
            state = "is there"
        else:
            missing = [each for each, scores in zip(cells[number - 1 :], done[number - 1 :], strict=True) if not scores]
            found = _run(cell, missing, suite, how, overwrite=overwrite, progress=progress)
            results.add(cell, found)
            state = f"no number: {found}" if isinstance(found, str) else f"{time.monotonic() - start:.0f} s"
        _say(f"{number:>4}/{len(cells)}  {cell.data.name} / {cell.entry.name} / {cell.model.name}: {state}")
        write_tables(how.out, results)
    return results


def _run(
    cell: Cell, missing: Sequence[Cell], suite: Suite, how: How, *, overwrite: bool, progress: bool
) -> list[Score] | str:
    """Run a cell, after the features that it shares with missing cells are there."""
    if cell.protocol.verb.name == "probe":
        sharing = [each for each in missing if each.data is cell.data and each.model is cell.model]
        try:
            share_features(sharing, how, progress=progress)
        except Interruption:
            raise
        except AvsslError as error:
            return str(error)
    return run_cell(cell, suite, how, overwrite=overwrite, progress=progress)


# ---------------------------------------------------------------- dry run


def _print_plan(suite: Suite, models: Sequence[Model], how: How) -> None:
    """Print the cells with their commands, and how long those that are missing take, as far as others tell."""
    randoms = random_columns(models, suite.fields.seed) if suite.fields.random_init else {}
    names = [*(model.name for model in models), *randoms]
    total, seconds, missing, unknown = 0, 0.0, 0, []
    for data in suite.data:
        for entry in data.entries:
            needs_space = PROTOCOLS[entry.protocol].needs_joint_space
            columns = [*names, *[SUPERVISED] * (suite.supervised is not None and not needs_space)]
            print(f"{data.name} / {entry.name}: {len(columns)} models")
            for model in models:
                print(f"    {make_cell(suite, data, entry, model, how).command}")
            taken = [seconds_taken(cell_folder(data, entry, name, how)) for name in columns]
            known = [each for each in taken if each is not None]
            total, missing = total + len(taken), missing + len(taken) - len(known)
            seconds += (len(taken) - len(known)) * float(np.mean(known)) if known else 0
            unknown += [] if known else [f"{data.name} / {entry.name}"]
    print(f"models: {', '.join([*names, *[SUPERVISED] * (suite.supervised is not None)])}")
    print(f"cells: {total}, of which {total - missing} are there; the others take {_expected(seconds, unknown)}")
    print("dry run: nothing was written")


def _expected(seconds: float, unknown: Sequence[str]) -> str:
    """Return the time of cells whose protocol was measured on another model here."""
    if not unknown:
        return f"about {round(seconds / 60)} min"
    about = f"about {round(seconds / 60)} min, and an unknown time for" if seconds else "an unknown time:"
    return f"{about} {', '.join(unknown)} (no model of this folder was measured by them)"


def _say(text: str) -> None:
    print(text, flush=True)
