"""``avssl pretrain FOLDER``: train on videos and their audio, without labels.

A folder of videos is all it needs. Every setting has a default; the options below change them.
Continue an interrupted run with ``avssl pretrain --resume runs/NAME``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from avssl.config import Config, ConfigError, new_parser, parse_command
from avssl.core import distributed
from avssl.engine import FitResult, choose_device, seed_everything
from avssl.hub.run_weights import check_model, load_video_weights, release_run
from avssl.training.build import build_loader, build_task, memory_rows
from avssl.training.rows import rows_of_run
from avssl.training.run_directory import RunDirectory, default_directory, refuse_changes, resolved, resumed_words
from avssl.training.run_plan import describe, describe_cost, describe_end, describe_time
from avssl.training.setup import measure, with_fitting_batch, with_measured
from avssl.training.start import after_restart, load_run
from avssl.training.train import train


def main(argv: Sequence[str]) -> int:
    """Parse the command line and run :func:`pretrain`."""
    parser = new_parser("avssl pretrain", __doc__)
    parser.usage = "avssl pretrain FOLDER_OR_MANIFEST [--out RUN] [--config FILE] [settings]"
    parser.add_argument("source", nargs="?", metavar="FOLDER_OR_MANIFEST", help="Folder of videos, or a manifest.")
    parser.add_argument("-o", "--out", metavar="RUN", help="Run directory; default: runs/NAME of the source.")
    parser.add_argument("--resume", metavar="RUN", help="Continue the run in this directory with its own settings.")
    parser.add_argument("--overwrite", action="store_true", help="Replace an earlier run in the run directory.")
    parser.add_argument("--dry-run", action="store_true", help="Print plan and cost of the run, and exit.")
    words, resumed = resumed_words(argv)
    options, config = parse_command(parser, words, Config)
    if options.source:
        config = replace(config, data=replace(config.data, source=options.source))
    if resumed:
        refuse_changes(RunDirectory(resumed).read_config(), config)
    out = resumed or options.out
    pretrain(config, out, resume=bool(resumed), overwrite=options.overwrite, dry_run=options.dry_run)
    return 0


def pretrain(
    config: Config,
    out: Path | str | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: bool = True,
) -> tuple[Path, FitResult]:
    """Train on ``config.data.source`` and write a release.

    Under ``torchrun`` all processes train one model together, and continue it after a restart.

    Args:
        config: Settings.
        out: Run directory; default: ``runs/<name of the source>``.
        resume: Continue the run in ``out`` from its newest checkpoint.
        overwrite: Replace an earlier run in ``out``.
        dry_run: Stop before the first step: print plan and cost of the run, and write nothing.
        progress: Show bars; where there is no terminal, log a line now and then.

    Returns:
        The run directory, whose ``weights/`` holds the release, and the outcome: 0 steps after a dry run.

    Raises:
        ConfigError: If no source is given, or a setting does not fit it.
        ManifestError: If the source has fewer than eight usable rows.
        RunDirectoryError: If ``out`` must not be written, or cannot be continued.
        Interrupted: If the process got SIGTERM or SIGUSR1, after everything is saved.
        TooManyBadFiles: If more than ``data.max_bad_fraction`` of the rows cannot be read.
    """
    if not config.data.source:
        raise ConfigError("name a folder of videos or a manifest: avssl pretrain FOLDER_OR_MANIFEST")
    with distributed.process_group(choose_device(config.train.device)) as device:
        # ---------------------------------------------------------------- find the rows
        run = RunDirectory(out or default_directory(config.data.source))
        config, resume, overwrite = after_restart(run, config, resume, overwrite)
        config = resolved(config)
        seed_everything(config.train.seed)
        check_model(config, resume)  # bad settings fail before a long look at the files
        rows = rows_of_run(config, run, resume=resume, overwrite=overwrite, dry_run=dry_run, progress=progress)

        # ---------------------------------------------------------------- build
        config = with_fitting_batch(config, len(rows.manifest))
        loader = build_loader(config, rows.manifest, device, rows.max_bad_fraction)
        task = build_task(config, memory_rows(loader.dataset))
        total_steps = config.optim.epochs * loader.steps_per_epoch
        _print(describe(config, run.path, rows, task, loader))

        # ---------------------------------------------------------------- prepare: statistics, precision, weights
        if dry_run or run.is_fresh():
            measured = measure(config, rows.manifest, task, device)
            _print(describe_time(config, measured, total_steps))
            if dry_run:
                _print(describe_cost(config, task, measured, total_steps))
                _print("dry run: nothing was written")
                return run.path, FitResult()
            config = with_measured(config, measured, total_steps)
            run.record(config, rows.manifest, device)
            if config.train.init_from:
                load_run(config.train.init_from, task)
            if config.train.init_video_from:
                load_video_weights(config.train.init_video_from, task)

        # ---------------------------------------------------------------- train
        seed_everything(config.train.seed)  # measuring drew random numbers, and how many depends on the settings
        result = train(config, run, rows, task, loader, device, progress=progress)

        # ---------------------------------------------------------------- finish
        loader.share_bad_files()
        if distributed.is_main():
            run.write_dropped(rows.unusable, loader.ledger)
            _print(describe_end(result, rows, loader, run.dropped_files))
            _print(release_run(config, run, rows, task, result))
        distributed.barrier()
        return run.path, result


def _print(text: str) -> None:
    if distributed.is_main():
        print(text, flush=True)
