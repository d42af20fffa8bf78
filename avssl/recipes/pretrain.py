"""The verb ``pretrain``: train on videos and their audio, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from avssl.config import Config, ConfigError
from avssl.core import distributed
from avssl.core.ranges import Count, Positive
from avssl.engine import Checkpointer, FitResult, choose_device, deterministic, seed_everything, step_of
from avssl.engine.stop_request import resumable
from avssl.hub.converters import load_torchvision
from avssl.hub.run_weights import load_video_weights, release_run
from avssl.training.build import (
    build_loader,
    build_model,
    build_task,
    check_options,
    load_public_weights,
    memory_rows,
    needs_of,
)
from avssl.training.cluster_plan import Cluster, Here, describe_cluster
from avssl.training.overlap import overlaps_with_tests
from avssl.training.rows import rows_of_run
from avssl.training.run_directory import RunDirectory, default_directory, resolved
from avssl.training.run_plan import describe, describe_cost, describe_end, describe_time
from avssl.training.setup import measure, with_fitting_batch, with_measured
from avssl.training.start import after_restart, load_run
from avssl.training.tasks import PretrainTask
from avssl.training.train import train

SHORT_NAMES = {"source": "data.source"}
FIRST = (
    "out",
    "resume",
    "overwrite",
    "dry_run",
    "world_size",
    "test_manifest",
    "data.split",
    "sampling.num_frames",
    "sampling.frames_per_second",
    "model.video.name",
    "model.audio.name",
    "objective.name",
    "optim.lr",
    "optim.batch_size",
    "optim.epochs",
    "train.seed",
    "train.device",
)


def pretrain(
    config: Config,
    *,
    out: Path | str | None = None,
    resume: Path | str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    world_size: Count | None = None,
    num_rows: Count | None = None,
    step_seconds: Positive | None = None,
    test_manifest: Sequence[Path | str] = (),
    progress: bool = True,
) -> tuple[Path, FitResult]:
    """Train on a folder of videos and their audio, without labels.

    A folder of videos is all it needs; every setting has a default. Continue an interrupted run with
    ``avssl pretrain --resume runs/NAME``. Under ``torchrun`` all processes train one model together, and when torchrun
    restarts them after one was killed, they continue the run.

    Args:
        config: Every setting.
        out: Run directory; default: runs/NAME of the source.
        resume: Continue the run in this directory with its own settings.
        overwrite: Replace an earlier run in the run directory.
        dry_run: Print what the run would cost in operations, memory, disk and time, and write nothing.
        world_size: With dry_run, also plan the run for so many processes, one a GPU, of other machines.
        num_rows: With world_size, rows of the corpus to plan for; default: those of the source.
        step_seconds: With world_size, time of a step there; default: as measured here, which says little about a GPU.
        test_manifest: Manifests of test clips, or published lists of their ids. How many of them are trained on, by
            name and by content, is printed; so it is for the splits test and val of the source.
        progress: Show progress bars.

    Returns:
        The run directory, whose ``weights/`` holds the release, and the outcome: 0 steps after a dry run.

    Raises:
        ConfigError: If no source is given, or a setting does not fit it.
        ManifestError: If the source has no usable rows, or fewer than eight.
        RunDirectoryError: If ``out`` must not be written, or the run cannot be continued.
        Interruption: If a signal other than Ctrl-C asked to stop; everything is saved.
        TooManyBadFiles: If more than ``data.max_bad_fraction`` of the rows cannot be read.
    """
    if not config.data.source:
        raise ConfigError("name a folder of videos or a manifest: avssl pretrain SOURCE")
    cluster = Cluster.requested(world_size, num_rows, step_seconds, dry_run=dry_run)
    run = RunDirectory(resume or out or default_directory(config.data.source))
    with (
        resumable(run.path),
        deterministic(config.train.deterministic),
        distributed.process_group(choose_device(config.train.device)) as device,
        ExitStack() as held,
    ):
        # ---------------------------------------------------------------- find the rows
        config, resumes, overwrite = after_restart(run, config, resume is not None, overwrite)
        config = resolved(config)
        seed_everything(config.train.seed)
        check_options(config)  # bad settings and weights fail before a long look at the files
        _check_first_weights(config, resumes)
        claim = None
        if not dry_run:
            reads = (config.data.source, config.train.init_from, config.train.init_video_from)
            claim = held.enter_context(run.claimed("pretrain", overwrite=overwrite, resume=resumes, reads=reads))
        planned = config
        rows = rows_of_run(config, run, claim, resume=resumes, dry_run=dry_run, progress=progress)

        # ---------------------------------------------------------------- build
        config = with_fitting_batch(config, len(rows.manifest))
        windows = needs_of(config).windows
        loader = build_loader(config, rows.manifest, device, rows.max_bad_fraction, windows=windows)
        checkpoint = None if dry_run else Checkpointer(run.checkpoints).latest()
        task = build_task(config, memory_rows(loader.dataset), pretrained=checkpoint is None)
        total_steps = config.optim.epochs * loader.steps_per_epoch
        _print(describe(config, run.path, rows, task, loader))
        if distributed.is_main():
            for name, overlap in overlaps_with_tests(rows.manifest, config.data.source, test_manifest).items():
                _print(f"overlap     {name}: {overlap}")

        # ---------------------------------------------------------------- prepare: statistics, precision, weights
        if resumes and distributed.is_main():
            _note_changes(run, config, 0 if checkpoint is None else step_of(checkpoint), total_steps)
        if checkpoint is not None:
            _print(f"resumes     {checkpoint}")
        else:
            measured = measure(config, rows.manifest, task, device)
            _print(describe_time(measured, total_steps))
            if dry_run:
                _print(describe_cost(config, task, measured, total_steps))
                here = Here(measured, config.optim.batch_size, len(rows.manifest))
                _print(describe_cluster(planned, task, here, cluster) + "dry run: nothing was written")
                return run.path, FitResult()
            config = with_measured(config, measured, total_steps)
            run.record(config, rows.manifest, device)
            _load_first_weights(config, task)

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


def _check_first_weights(config: Config, resumes: bool) -> None:
    """Raise the error of weights of others that are missing or do not fit; a resumed run has its own."""
    if resumes:
        return
    if config.train.init_video_from:
        load_torchvision(build_model(config).video_encoder, config.train.init_video_from)
    if any(tower.options().get("pretrained") for tower in (config.model.video, config.model.audio)):
        model = build_model(config)
        load_public_weights(model.video_encoder, model.audio_encoder)


def _load_first_weights(config: Config, task: PretrainTask) -> None:
    """Load the weights of another run that the settings name."""
    if config.train.init_from:
        load_run(config.train.init_from, task)
    if config.train.init_video_from:
        load_video_weights(config.train.init_video_from, task)


def check_settings(config: Config) -> None:
    """Raise the error of a setting that cannot be built."""
    check_options(config)


def _note_changes(run: RunDirectory, config: Config, step: int, total_steps: int) -> None:
    for name, (old, new) in run.note_changes(config, step if step < total_steps else None).items():
        print(f"changes     {name} from {old} to {new}, after step {step}", flush=True)


def _print(text: str) -> None:
    if distributed.is_main():
        print(text, flush=True)
