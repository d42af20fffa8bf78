"""``avssl pretrain FOLDER``: learn from videos with sound, without labels.

Needs nothing but a folder of videos. Every number has a default; the settings below change them.
A run that was stopped is continued with ``avssl pretrain --resume runs/NAME``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from avssl.config import Config, ConfigError, new_parser, parse_command
from avssl.core import distributed
from avssl.core.manifest import Manifest
from avssl.data.loader import TrainLoader
from avssl.engine import (
    Checkpointer,
    FitResult,
    LoopSettings,
    MetricsLog,
    Precision,
    WeightAverage,
    choose_device,
    environment_report,
    fit,
    load_checkpoint,
    seed_everything,
    set_threads,
)
from avssl.hub.converters import load_torchvision
from avssl.hub.pretrained import save_pretrained
from avssl.training.build import (
    build_loader,
    build_model,
    build_optimizer,
    build_schedule,
    build_task,
    memory_rows,
    named_backend,
)
from avssl.training.monitors import BEST_BY, create_monitors
from avssl.training.run_directory import RunDirectory, default_directory, refuse_changes, resolved, resumed_words
from avssl.training.run_plan import Rows, describe
from avssl.training.setup import (
    choose_precision,
    find_rows,
    fitting_batch_size,
    hold_out,
    measure_step,
    set_statistics,
)
from avssl.training.tasks import PretrainTask


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`pretrain` or continues a run."""
    parser = new_parser("avssl pretrain", __doc__)
    parser.usage = "avssl pretrain FOLDER_OR_MANIFEST [--out RUN] [--config FILE] [settings]"
    parser.add_argument("source", nargs="?", metavar="FOLDER_OR_MANIFEST", help="Videos, or a manifest of them.")
    parser.add_argument("-o", "--out", metavar="RUN", help="The run directory; runs/NAME of the source by default.")
    parser.add_argument("--resume", metavar="RUN", help="Continue the run in this folder with its own settings.")
    parser.add_argument("--overwrite", action="store_true", help="Replace an earlier run in the run directory.")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="Print what the run would cost in operations, memory, disk and time; end.",
    )
    words, resumed = resumed_words(argv)
    options, config = parse_command(parser, words, Config)
    if options.source:
        config = replace(config, data=replace(config.data, source=options.source))
    if resumed:
        refuse_changes(RunDirectory(resumed).read_config(), config)
    out = resumed or options.out
    if options.dry_run:
        dry_run(config, out)
        return 0
    pretrain(config, out, resume=bool(resumed), overwrite=options.overwrite)
    return 0


def pretrain(
    config: Config,
    out: Path | str | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> tuple[Path, FitResult]:
    """Trains on ``config.data.source`` from start to end.

    Under ``torchrun`` every process calls it, and they train one model together. When torchrun starts them
    again after one was killed, they continue the run they began.

    Args:
        config: Every setting.
        out: The run directory; ``runs/<name of the source>`` by default.
        resume: Continue the run in ``out`` from its newest checkpoint.
        overwrite: Replace an earlier run in ``out``.
        progress: Show bars and a line a log.

    Returns:
        The run directory, whose ``weights/`` holds the release, and how the training ended.

    Raises:
        ConfigError: If no source is given, or a setting does not fit it.
        ManifestError: If the source has no usable rows, or fewer than eight.
        RunDirectoryError: If ``out`` must not be written, or cannot be continued.
        Interrupted: If it was sent SIGTERM or SIGUSR1, once everything is saved.
        TooManyBadFiles: If more than ``data.max_bad_fraction`` of the rows cannot be read.
    """
    if not config.data.source:
        raise ConfigError("name a folder of videos or a manifest: avssl pretrain FOLDER_OR_MANIFEST")
    device = distributed.start(choose_device(config.train.device))
    try:
        run = RunDirectory(out or default_directory(config.data.source))
        if distributed.finds_mark(_mark(run)):  # torchrun started us again, after a rank was killed
            overwrite = True
            if Checkpointer(run.checkpoints).files():
                config, resume = run.read_config(), True
        config = resolved(config)
        seed_everything(config.train.seed)

        model = build_model(config)  # what cannot be built is told before the files are looked at
        if config.train.init_video_from and not resume:
            load_torchvision(model.video_encoder, config.train.init_video_from)
        rows = _rows(config, run, resume=resume, overwrite=overwrite, progress=progress)
        config = _fitting_batch(config, len(rows.manifest))
        loader = build_loader(config, rows.manifest, device, rows.max_bad_fraction)
        task = build_task(config, memory_rows(loader.dataset))
        if distributed.is_main():
            _say(describe(config, run.path, rows, task, loader))

        checkpoint = Checkpointer(run.checkpoints).latest()
        if checkpoint is None:
            config = _prepare(config, rows.manifest, task, device, config.optim.epochs * loader.steps_per_epoch, run)
            if config.train.init_from:
                _begin_from(config.train.init_from, task)
            if config.train.init_video_from:
                _begin_video_from(config.train.init_video_from, task)
        else:
            _say(f"resumes     {checkpoint}")
        seed_everything(config.train.seed)  # what was timed has drawn, and how often depends on the precision asked for
        result = _train(config, run, rows, task.to(device), loader, device, progress)
        loader.share_bad_files()
        if distributed.is_main():
            _finish(config, run, rows, task, loader, result)
        distributed.barrier()
        return run.path, result
    finally:
        distributed.stop()


def dry_run(config: Config, out: Path | str | None = None, *, progress: bool = True) -> None:
    """Prints what :func:`pretrain` would do and cost on this machine, in one process; writes nothing.

    Arguments and errors as there.
    """
    if not config.data.source:
        raise ConfigError("name a folder of videos or a manifest: avssl pretrain FOLDER_OR_MANIFEST")
    device = choose_device(config.train.device)
    set_threads(config.train.threads)
    seed_everything(config.train.seed)
    config = replace(config, data=replace(config.data, backend=named_backend(config.data.backend)))
    found, unusable = find_rows(config, progress=progress)
    rows = Rows(*hold_out(config, found), unusable, config.data.max_bad_fraction)
    config = _fitting_batch(config, len(rows.manifest))
    loader = build_loader(config, rows.manifest, device, rows.max_bad_fraction)
    task = build_task(config, memory_rows(loader.dataset))
    _say(describe(config, Path(out or default_directory(config.data.source)), rows, task, loader))
    sample, read_seconds = set_statistics(config, rows.manifest, task.transform)
    precision, step_seconds = choose_precision(config, task, sample, device)
    cost, state = measure_step(config, task, sample, precision)
    batch, total_steps = config.optim.batch_size, config.optim.epochs * loader.steps_per_epoch
    seconds = _seconds_of_step(step_seconds, read_seconds, device)
    _say(f"precision   {precision}")
    gigaflops = cost.flops / 1e9
    _say(
        f"operations  {gigaflops:.4g} GFLOP a step, forward and backward: {gigaflops / step_seconds:.3g} a second; "
        f"{gigaflops * total_steps:.3g} in all"
    )
    _say(
        f"memory      about {(cost.saved_bytes + state) / 2**20:.0f} MiB: {state / 2**20:.0f} for weights, gradients, "
        f"optimizer and what the objective keeps, {cost.saved_bytes / 2**20:.0f} kept for the backward pass"
    )
    _say(f"loader      {batch / read_seconds:.1f} clips a second; the model takes {batch / step_seconds:.1f}")
    _say(f"time        about {_duration(seconds * total_steps)}: {total_steps} steps of {seconds:.2f} s")
    _say("dry run: nothing was written")


# ---------------------------------------------------------------- the rows


def _rows(config: Config, run: RunDirectory, *, resume: bool, overwrite: bool, progress: bool) -> Rows:
    """The rows of the run: found by rank 0, kept in the run directory, and read from there by all."""
    if not resume and distributed.is_main():
        run.refuse_unless_free(overwrite)
        there = Path(config.data.source) / "manifest.csv"
        if there.is_file():
            _say(f"note        {there} is there; name it instead of its folder to use its splits")
        found, unusable = find_rows(config, progress=progress)
        manifest, held_out = hold_out(config, found)
        distributed.leave_mark(_mark(run))
        run.claim(overwrite)
        run.write_rows(manifest, unusable, held_out)
        run.write_config(config)
    distributed.barrier()
    manifest, unusable = run.read_rows(config.data.source)
    allowed = config.data.max_bad_fraction * (len(manifest) + len(unusable)) - len(unusable)
    held_out = run.read_held_out(config.data.source)
    return Rows(manifest, held_out, unusable, min(1.0, max(0.0, allowed / len(manifest))))


def _fitting_batch(config: Config, num_rows: int) -> Config:
    asked = config.optim.batch_size
    fitting = fitting_batch_size(asked, num_rows)
    if fitting < asked:
        _say(f"batch       {fitting} clips instead of {asked}: there are only {num_rows} rows")
    return replace(config, optim=replace(config.optim, batch_size=fitting))


# ---------------------------------------------------------------- before the first step


def _prepare(
    config: Config, manifest: Manifest, task: PretrainTask, device: torch.device, total_steps: int, run: RunDirectory
) -> Config:
    """Statistics, precision and the expected time.

    Every rank measures, because a step needs them all; what rank 0 found counts.

    Returns:
        The settings with everything resolved, as they are now in ``config.yaml``.
    """
    sample, read_seconds = set_statistics(config, manifest, task.transform)
    precision, step_seconds = distributed.broadcast_object(choose_precision(config, task, sample, device))
    seconds = distributed.broadcast_object(_seconds_of_step(step_seconds, read_seconds, device))
    asked = (config.train.precision, config.train.memory_format)
    every = config.train.checkpoint_every_steps or math.ceil(config.train.checkpoint_every_seconds / seconds)
    train = replace(
        config.train,
        precision=precision.name,
        memory_format=precision.memory_format,
        checkpoint_every_steps=max(1, min(every, total_steps)),
    )
    config = replace(config, train=train)
    if distributed.is_main():
        run.write_config(config)
        run.write_environment(environment_report(device) | {"manifest_hash": manifest.hash(), "rows": len(manifest)})
    _say(f"precision   {precision}{', the fastest here' if 'auto' in asked else ''}")
    _say(f"time        about {_duration(seconds * total_steps)}: {total_steps} steps of {seconds:.2f} s")
    return config


def _seconds_of_step(step_seconds: float, read_seconds: float, device: torch.device) -> float:
    """Decoding and the model share the cores of a CPU, and overlap beside a GPU."""
    return step_seconds + read_seconds if device.type == "cpu" else max(step_seconds, read_seconds)


def _begin_from(source: str, task: PretrainTask) -> None:
    """Takes over the weights and statistics of another run, and what its objective kept that this one keeps too.

    A momentum model begins with those weights too, where the other run had none.
    """
    state = Checkpointer(RunDirectory(source).checkpoints).load_latest()
    if state is None:
        raise ConfigError(f"train.init_from ({source}): there is no checkpoint of a run.")
    wanted, theirs = task.state_dict(), state["task"]
    copied = {f"target.{name}": value for name, value in theirs.items() if name.startswith("model.")}
    theirs = copied | theirs
    fitting = {k: v for k, v in theirs.items() if k in wanted or not k.startswith(("objective.", "target."))}
    for name in sorted(name for name in {*wanted, *fitting} if not name.startswith("objective.")):
        shapes = [tuple(tensors[name].shape) if name in tensors else None for tensors in (fitting, wanted)]
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"train.init_from ({source}): {name} is {shapes[0]} there and {shapes[1]} here. Use the same model "
                "and transform settings."
            )
    task.load_state_dict(fitting, strict=False)
    _say(f"begins from {source}, step {state['step']}")


def _begin_video_from(path: str, task: PretrainTask) -> None:
    """Takes over weights of torchvision; a momentum model begins with them too."""
    models: list[Any] = [task.model, *([] if task.target is None else [task.target.model])]
    for model in models:
        load_torchvision(model.video_encoder, path)
    _say(f"video       begins from {path}")


# ---------------------------------------------------------------- the run


def _train(
    config: Config,
    run: RunDirectory,
    rows: Rows,
    task: PretrainTask,
    loader: TrainLoader,
    device: torch.device,
    progress: bool,
) -> FitResult:
    train = config.train
    assert train.precision != "auto", "resolved before training"
    assert train.memory_format != "auto", "resolved before training"
    assert train.checkpoint_every_steps, "resolved before training"
    precision = Precision(train.precision, train.memory_format)
    total_steps = config.optim.epochs * loader.steps_per_epoch
    average = None if train.ema_decay is None else WeightAverage(task.model, train.ema_decay)
    monitors = create_monitors(config, rows.manifest, rows.held_out, partial(precision.autocast, device))
    result = fit(
        task,
        loader,
        build_optimizer(config, task),
        build_schedule(config, total_steps),
        settings=LoopSettings(
            total_steps,
            loader.steps_per_epoch,
            log_every=train.log_every,
            checkpoint_every=train.checkpoint_every_steps,
            # Never by rows that are trained on, nor by anything annotated.
            best_by=BEST_BY if rows.held_out is not None else None,
            grad_clip=config.optim.grad_clip,
            device=device,
            precision=precision,
        ),
        checkpointer=Checkpointer(run.checkpoints, train.keep_checkpoints),
        metrics_log=MetricsLog(run.path),
        monitors=monitors,
        average=average,
        progress=progress,
        resume=True,  # a fresh run has no checkpoint
        extra={"manifest_hash": rows.manifest.hash()},
    )
    if average is not None:
        average.copy_to_model()
    return result


def _finish(
    config: Config, run: RunDirectory, rows: Rows, task: PretrainTask, loader: TrainLoader, result: FitResult
) -> None:
    """Weights, the list of dropped files, and the last words."""
    run.write_dropped(rows.unusable, loader.ledger)
    about = {
        "epochs": config.optim.epochs,
        "clips seen": result.samples_seen,
        "hours in the loop": round(result.wall_seconds / 3600, 2),
        "rows": len(rows.manifest),
        "clip list": rows.manifest.hash(),
        "seed": config.train.seed,
    }
    save_pretrained(run.weights, task.model, task.transform, config, about)
    _release_best(config, run, task, about)
    dropped = len(rows.unusable) + len(loader.ledger)
    if dropped:
        _say(f"dropped     {dropped} files or rows: {run.dropped_files}")
        _say(loader.ledger.summary())
    _say(f"done        {result.step} steps, loss {result.metrics['loss']:.3f}, in {_duration(result.wall_seconds)}")
    _say(f"weights     {run.weights}")


def _release_best(config: Config, run: RunDirectory, task: PretrainTask, about: dict[str, Any]) -> None:
    """The weights that retrieved best among held-out rows, as a second release; replaces those of ``task``."""
    best = Checkpointer(run.checkpoints).best
    if not best.is_file():
        return
    state = load_checkpoint(best)
    task.load_state_dict(state["task"])
    about = about | {"step": state["step"], f"held-out {BEST_BY}": round(state["score"], 4)}
    save_pretrained(run.weights_best, task.model, task.transform, config, about)
    _say(f"best        step {state['step']}, held-out {BEST_BY} {state['score']:.3f}: {run.weights_best}")


# ---------------------------------------------------------------- small things


def _mark(run: RunDirectory) -> str:
    """What the first attempt of a torchrun job tells the next ones: the run in this folder is theirs."""
    return f"began {run.path.resolve()}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _say(text: str) -> None:
    if text and distributed.is_main():
        print(text, flush=True)
