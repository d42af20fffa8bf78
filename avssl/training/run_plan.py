"""The plan of a pretraining run, in lines to read before the first step."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np

from avssl.config import Config
from avssl.core import distributed
from avssl.core.manifest import Manifest
from avssl.data.loader import TrainLoader
from avssl.engine import FitResult, checkpoint_bytes, module_bytes
from avssl.engine.cost import frozen_bytes
from avssl.training.rows import Rows, reasons
from avssl.training.setup import Measurements, measure_cost
from avssl.training.tasks import PretrainTask


def describe(config: Config, folder: Path, rows: Rows, task: PretrainTask, loader: TrainLoader) -> str:
    """Describe data, model and length of a run. Warns if its checkpoints will not fit on the disk."""
    sampling, video = config.sampling, config.transform.video
    manifest, model = rows.manifest, config.model
    unusable = f"; {len(rows.unusable)} files cannot be used: {', '.join(reasons(rows.unusable))}"
    parameters = sum(parameter.numel() for parameter in task.model.parameters())
    epochs, batch = config.optim.epochs, config.optim.batch_size
    steps = loader.steps_per_epoch
    return "\n".join(
        [
            f"run         {folder}",
            f"data        {len(manifest)} rows, {_hours(manifest)}{unusable if len(rows.unusable) else ''}",
            f"clips       {sampling.num_frames} frames at {sampling.frames_per_second:g} per second, {video.size} x "
            f"{video.size}; {sampling.audio_seconds:g} s of audio at {sampling.sample_rate_hz} Hz",
            f"model       {model.video.title} + {model.audio.title} + {model.head.name}, "
            f"{parameters / 1e6:.2f} M parameters",
            *_gallery(config, rows),
            f"steps       {epochs * steps}: {epochs} epochs of {steps} steps of {batch} clips",
            _disk(config, folder, rows, task),
        ]
    )


def _hours(manifest: Manifest) -> str:
    """Return the length of all rows, as far as the manifest gives it."""

    def column(name: str) -> np.ndarray:
        return manifest[name] if name in manifest else np.full(len(manifest), np.nan)

    spans = column("stop_seconds") - column("start_seconds")
    seconds = np.where(np.isnan(column("duration_seconds")), spans, column("duration_seconds"))
    unknown = int(np.isnan(seconds).sum())
    if unknown == len(manifest):
        return "of unknown length"
    return f"{np.nansum(seconds) / 3600:.2f} h" + (f" and {unknown} rows of unknown length" if unknown else "")


def _gallery(config: Config, rows: Rows) -> list[str]:
    """Describe the clips on which the monitors report retrieval, if there are monitors."""
    if not config.monitor.every_steps:
        return []
    if rows.held_out is not None:
        return [f"gallery     {len(rows.held_out)} rows that training never sees"]
    count = min(config.monitor.num_clips, len(rows.manifest))
    return [f"gallery     {count} of the training rows: too few to keep any out of training"]


def _disk(config: Config, folder: Path, rows: Rows, task: PretrainTask) -> str:
    """Describe the size of the checkpoints, with the one being written, and the free space."""
    averaged = None if config.train.ema_decay is None else task.model
    size, kept = checkpoint_bytes(task, config.optim.name, averaged=averaged), config.train.keep_checkpoints
    has_best = rows.held_out is not None and config.monitor.every_steps > 0
    needed = frozen_bytes(task.model) + size * (kept + 1) + (module_bytes(task) if has_best else 0)
    kept_now = [path for pattern in ("*.pt", "step-*/*.safetensors") for path in folder.rglob(pattern)]
    there = sum(path.stat().st_size for path in kept_now)
    free = shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.is_dir())).free
    if free + there < needed and distributed.is_main():
        warnings.warn(
            f"{folder}: {_size(free)} are free, and the checkpoints will take up to {_size(needed - there)} more. "
            "Make room, choose another disk with --out, or lower train.keep_checkpoints.",
            stacklevel=2,
        )
    return f"disk        {kept} checkpoints of {_size(size)}{' and the best weights' * has_best}; {_size(free)} free"


def describe_time(measured: Measurements, total_steps: int) -> str:
    """Describe the precision, why it was chosen, and the expected time of a run."""
    seconds = measured.step_seconds
    return (
        f"precision   {measured.choice}\n"
        f"time        about {_duration(seconds * total_steps)}: {total_steps} steps of {seconds:.2f} s"
    )


def describe_cost(config: Config, task: PretrainTask, measured: Measurements, total_steps: int) -> str:
    """Count the operations and the memory of a step, and describe them with the decoding speed."""
    cost, state_bytes = measure_cost(config, task, measured.sample, measured.precision)
    batch, gigaflops = config.optim.batch_size, cost.flops / 1e9
    return (
        f"operations  {gigaflops:.4g} GFLOP per step, forward and backward: {gigaflops / measured.model_seconds:.3g} "
        f"per second; {gigaflops * total_steps:.3g} in all\n"
        f"memory      about {(cost.saved_bytes + state_bytes) / 2**20:.0f} MiB: {state_bytes / 2**20:.0f} for weights, "
        f"gradients, optimizer and objective, {cost.saved_bytes / 2**20:.0f} for activations\n"
        f"loader      {batch / measured.read_seconds:.1f} clips per second; the model takes "
        f"{batch / measured.model_seconds:.1f}"
    )


def describe_end(result: FitResult, rows: Rows, loader: TrainLoader, dropped_files: Path) -> str:
    """Describe the outcome of a training, and the files that were dropped."""
    dropped = len(rows.unusable) + len(loader.ledger)
    lines = [f"dropped     {dropped} files or rows: {dropped_files}", loader.ledger.summary()] if dropped else []
    end = f"done        {result.step} steps, loss {result.metrics['loss']:.3f}, in {_duration(result.wall_seconds)}"
    return "\n".join(line for line in [*lines, end] if line)


def _duration(seconds: float) -> str:
    """Return a time as ``90 s``, ``17 min`` or ``2 h 05 min``."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:.0f} MiB" if num_bytes < 10 * 2**30 else f"{num_bytes / 2**30:.0f} GiB"
