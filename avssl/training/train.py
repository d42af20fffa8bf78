"""The training of a prepared run."""

from __future__ import annotations

import torch

from avssl.config import Config
from avssl.core import distributed
from avssl.core.sharded import mesh_of
from avssl.data.loader import TrainLoader
from avssl.engine import Checkpointer, FitResult, LoopSettings, Precision, WeightAverage, fit
from avssl.engine.sharding import shard, whole
from avssl.training.build import build_model, build_optimizer, build_schedule
from avssl.training.monitors import BEST_BY, create_monitors
from avssl.training.rows import Rows
from avssl.training.run_directory import RunDirectory
from avssl.training.tasks import PretrainTask
from avssl.training.tracking import create_log


def train(
    config: Config,
    run: RunDirectory,
    rows: Rows,
    task: PretrainTask,
    loader: TrainLoader,
    device: torch.device,
    *,
    progress: bool = True,
) -> FitResult:
    """Train from the newest checkpoint of the run, if there is one, to the end.

    Args:
        config: Settings whose precision and checkpoint interval are resolved.
        run: Where checkpoints and numbers are written.
        rows: The training rows and the monitors' gallery.
        task: The task; moved to ``device``. It ends with the averaged weights, if they are averaged; on rank 0 with
            whole networks, also if they are trained in shards.
        loader: Batches of the training rows.
        progress: Show a bar, or a line now and then where there is no terminal.
    """
    settings, optim = config.train, config.optim
    assert settings.checkpoint_every_steps, "resolved before training"
    precision = Precision.resolved(settings.precision, settings.memory_format)
    total_steps = optim.epochs * loader.steps_per_epoch
    is_fsdp = settings.parallel == "fsdp" and distributed.world_size() > 1
    if is_fsdp:
        shard(task, device, precision)  # unit by unit, so that no device ever holds the whole model
    task.to(device)
    mesh = mesh_of(task.state_dict().values())  # of networks, or of a divided memory
    average = None if settings.ema_decay is None else WeightAverage(task.model, settings.ema_decay)
    result = fit(
        task,
        loader,
        build_optimizer(config, task),
        build_schedule(config, total_steps),
        settings=LoopSettings(
            total_steps,
            loader.steps_per_epoch,
            log_every=settings.log_every,
            checkpoint_every=settings.checkpoint_every_steps,
            # Never chosen by rows that are trained on, nor by labels.
            best_by=BEST_BY if rows.held_out is not None else None,
            grad_clip=optim.grad_clip,
            device=device,
            precision=precision,
            compile=settings.compile,
        ),
        checkpointer=Checkpointer(run.checkpoints, settings.keep_checkpoints, task.model, mesh),
        metrics_log=create_log(config, run.path),
        monitors=create_monitors(config, rows.manifest, rows.held_out, precision),
        average=average,
        progress=progress,
        resume=True,  # a fresh run has no checkpoint
        extra={"manifest_hash": rows.manifest.hash()},
    )
    if average is not None:
        average.copy_to_model()
    if is_fsdp:
        _make_whole(config, task, device)
    return result


def _make_whole(config: Config, task: PretrainTask, device: torch.device) -> None:
    """Give the task of rank 0 whole networks in place of sharded ones, for the release; every rank must call it."""
    state = whole(task.weights())
    if distributed.is_main():
        fresh = PretrainTask(task.transform, build_model(config), task.objective)
        task.model, task.target = fresh.model, fresh.target
        task.load_weights(state)
        task.to(device)
