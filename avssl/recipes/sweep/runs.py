"""Runs of a grid: each is a run of ``avssl pretrain`` in its own directory.

::

    OUT/
    ├── runs/objective.temperature=0.05_train.seed=0/     run directories
    ├── settings/objective.temperature=0.05_train.seed=0.yaml     the settings that were requested
    ├── table.md, table.csv, sweep.json     the table
    └── sweep.png           the plot
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from avssl.config import Config, ConfigError, Grid, GridRun, load_config, load_run_config, to_yaml
from avssl.config.resumed import changed_settings
from avssl.core.errors import AvsslError, Interruption, RunError
from avssl.core.lock import OutputError
from avssl.core.output_records import Command
from avssl.core.outputs import FolderKind, claimed_folder
from avssl.core.whole_file import write_text
from avssl.recipes.pretrain import pretrain
from avssl.recipes.sweep.summary import (
    FILES,
    Summary,
    as_text,
    check_metrics,
    refuse_unknown_metrics,
    summarize,
    write_summary,
)

_KIND = FolderKind("a sweep", (*FILES, "settings/*.yaml", "runs/**/*"))
_TASK = "SLURM_ARRAY_TASK_ID"


def run_grid(
    grid: Grid, folder: Path, metrics: tuple[str, ...], *, dry_run: bool, overwrite: bool, progress: bool
) -> Summary | None:
    """Make the runs of a grid, or the one of this array task, and write the table."""
    if not grid.runs[0].config.data.source:
        raise ConfigError("name a folder of videos or a manifest: avssl sweep SOURCE, or --data.source SOURCE")
    names = {run_name(run): run for run in grid.runs}
    task = _array_task(len(names))
    if dry_run:
        for number, name in enumerate(names):
            print(f"{number:>4}  {folder / 'runs' / name}{'  is there' if is_finished(folder, name) else ''}")
        print(f"{len(names)} runs; dry run: nothing was written")
        return None
    part = (0, 1) if task is None else (task, len(names))
    source = grid.runs[0].config.data.source
    refuse_unknown_metrics([run.config for run in grid.runs], metrics)
    with claimed_folder(folder, Command.of("sweep"), _KIND, overwrite=overwrite, reads=(source,), part=part) as claim:
        claim.adopt()
        for name, run in names.items():
            _check_settings(folder, name, run.config, overwrite)
        chosen = names if task is None else dict([list(names.items())[task]])
        failures = _make_runs(chosen, folder, metrics, overwrite=overwrite, progress=progress)
        done = {name: run for name, run in names.items() if is_finished(folder, name)}
        summary = summarize(grid, {folder / "runs" / name: run for name, run in done.items()}, metrics)
        write_summary(folder, summary)
    print(as_text(summary))
    print(f"table and plot: {', '.join(str(folder / name) for name in FILES)}")
    if failures:
        name, reason = next(iter(failures.items()))
        raise RunError(
            f"{len(failures)} of {len(chosen)} runs failed; the first is {name}: {reason} The same command continues."
        )
    return summary


def run_name(run: GridRun) -> str:
    """Return the name of a run's directory, from the values of the axes."""
    return "_".join(f"{key}={quote(value, safe='')}" for key, value in run.values.items()) or "run"


def is_finished(folder: Path, name: str) -> bool:
    """Return True if a run has its release, which is written last."""
    return (folder / "runs" / name / "weights" / "model.safetensors").exists()


def _array_task(count: int) -> int | None:
    """Return the number of the run that this SLURM array task makes, or None outside of an array."""
    text = os.environ.get(_TASK)
    if text is None:
        return None
    if not text.isdecimal() or int(text) >= count:
        raise ConfigError(f"{_TASK} ({text}) must be 0 to {count - 1}, the {count} runs: sbatch --array=0-{count - 1}")
    return int(text)


def _check_settings(folder: Path, name: str, config: Config, overwrite: bool) -> None:
    """Raise OutputError if a run of this name was requested with other settings, unless it is to be replaced."""
    path = folder / "settings" / f"{name}.yaml"
    if overwrite or not path.exists():
        return
    for key, (old, new) in changed_settings(load_config(path, is_written=True), config).items():
        raise OutputError(
            f"{folder / 'runs' / name}: holds a run with {key} {old}, but {new} is requested. Replace the runs with "
            "--overwrite, or name another folder with --out."
        )


def _make_runs(
    runs: Mapping[str, GridRun], folder: Path, metrics: Sequence[str], *, overwrite: bool, progress: bool
) -> dict[str, str]:
    """Make the runs that are not there; return the messages of those that failed.

    A metric that the finished runs do not have, or the first one to finish, is an error before more are made.
    """
    failures = {}
    finished = [] if overwrite else [folder / "runs" / name for name in runs if is_finished(folder, name)]
    check_metrics(finished, metrics)
    for number, (name, run) in enumerate(runs.items(), start=1):
        path, requested = folder / "runs" / name, folder / "settings" / f"{name}.yaml"
        is_same = requested.exists() and not changed_settings(load_config(requested, is_written=True), run.config)
        if is_finished(folder, name) and is_same:
            _say(f"{number:>4}/{len(runs)}  {name}: is there")
            continue
        _say(f"{number:>4}/{len(runs)}  {name}")
        begun = (path / "config.yaml").exists()
        try:
            write_text(requested, to_yaml(run.config))
            if begun and is_same:
                pretrain(load_run_config(path), resume=path, progress=progress)
            else:
                pretrain(run.config, out=path, overwrite=begun, progress=progress)
            finished.append(path)
        except Interruption:
            raise
        except AvsslError as error:
            failures[name] = str(error)
            _say(f"      failed: {error}")
        check_metrics(finished, metrics)
    return failures


def _say(text: str) -> None:
    print(text, flush=True)
