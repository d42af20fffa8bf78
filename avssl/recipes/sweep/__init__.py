"""The verb ``sweep``: pretraining runs of all combinations of settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avssl.config import Config, Grid
from avssl.core.ranges import checked
from avssl.recipes.sweep.runs import run_grid
from avssl.recipes.sweep.summary import Summary
from avssl.training.build import check_options
from avssl.training.run_directory import default_directory

SHORT_NAMES = {"source": "data.source"}
FIRST = (
    "out",
    "metric",
    "dry_run",
    "overwrite",
    "sampling.num_frames",
    "model.video.name",
    "model.audio.name",
    "objective.name",
    "optim.lr",
    "optim.batch_size",
    "optim.epochs",
    "train.seed",
    "train.device",
)


@checked
def sweep(
    grid: Grid,
    *,
    out: Path | str | None = None,
    metric: Sequence[str] = (),
    dry_run: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Summary | None:
    """Pretrain with all combinations of several values of settings.

    Every setting of ``avssl pretrain`` may have several values: ``avssl sweep FOLDER --objective.temperature 0.05 0.1
    --train.seed 0 1 2`` makes six runs, each in its own run directory. The settings of all runs are checked before the
    first begins. The same command again skips finished runs and continues interrupted ones. A table has the last value
    of the metrics by setting, with mean and standard deviation over seeds, and a plot. SOURCE may be a config file:
    ``avssl sweep CONFIG.yaml --data.source FOLDER``.

    On SLURM an array task makes one run: its number, from 0, is SLURM_ARRAY_TASK_ID.

    Args:
        grid: Settings of all runs.
        out: Folder of the runs, the table and the plot; default: runs/NAME-sweep.
        metric: Names in metrics.jsonl; default: retrieval/R@10 among held-out clips beside that of shuffled audio, if
            the runs measure it, and loss. The first is plotted. A name that no run would have is an error
            before the first begins.
        dry_run: List the runs and their settings, and write nothing.
        overwrite: Replace finished runs of other settings in the folder.
        progress: Show progress bars.

    Returns:
        The table; None after a dry run, and for an array task.

    Raises:
        ConfigError: If no source is given, or a setting of a run cannot be used.
        OutputError: If the folder holds something else, or runs of other settings.
        Interruption: If a signal other than Ctrl-C asked to stop; everything is saved.
        RunError: If a run failed; the table has the others.
    """
    folder = Path(out or default_directory(grid.runs[0].config.data.source, "-sweep"))
    return run_grid(grid, folder, tuple(metric), dry_run=dry_run, overwrite=overwrite, progress=progress)


def check_settings(config: Config) -> None:
    """Raise the error of a setting that cannot be built."""
    check_options(config)
