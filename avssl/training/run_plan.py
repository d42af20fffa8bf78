"""What a pretraining run is about to do, in lines for people to read before it does it."""

from __future__ import annotations

import math
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from avssl.config import Config
from avssl.core.manifest import Manifest
from avssl.data.loader import TrainLoader
from avssl.engine import checkpoint_bytes, module_bytes
from avssl.training.setup import reasons
from avssl.training.tasks import PretrainTask


@dataclass(frozen=True)
class Rows:
    """What is trained on, and what could not be."""

    manifest: Manifest
    """The rows."""
    held_out: Manifest | None
    """Rows that are only looked at; None where all are trained on."""
    unusable: pa.Table
    """Files that gave no row."""
    max_bad_fraction: float
    """Share of the rows that may still fail, the files without a row being counted already."""


def describe(config: Config, folder: Path, rows: Rows, task: PretrainTask, loader: TrainLoader) -> str:
    """What is about to happen, in lines; warns where the checkpoints will not fit on the disk.

    Args:
        config: Every setting.
        folder: Of the run; need not be there yet.
        rows: What is trained on.
        task: Ready to train.
        loader: Of its batches.
    """
    sampling, video = config.sampling, config.transform.video
    manifest, model = rows.manifest, config.model
    hours = np.nansum(manifest["duration_seconds"]) / 3600 if "duration_seconds" in manifest else math.nan
    unusable = f"; {len(rows.unusable)} files cannot be used: {', '.join(reasons(rows.unusable))}"
    parameters = sum(parameter.numel() for parameter in task.model.parameters())
    epochs, batch = config.optim.epochs, config.optim.batch_size
    steps = loader.steps_per_epoch
    return "\n".join(
        [
            f"run         {folder}",
            f"data        {len(manifest)} rows, {hours:.2f} h{unusable if len(rows.unusable) else ''}",
            f"clips       {sampling.num_frames} frames at {sampling.frames_per_second:g} a second, {video.size} x "
            f"{video.size}; {sampling.audio_seconds:g} s of sound at {sampling.sample_rate_hz} Hz",
            f"model       {model.video.name} + {model.audio.name} + {model.head.name}, "
            f"{parameters / 1e6:.2f} M parameters",
            *_gallery(config, rows),
            f"steps       {epochs * steps}: {epochs} epochs of {steps} steps of {batch} clips",
            _disk(config, folder, rows, task),
        ]
    )


def _gallery(config: Config, rows: Rows) -> list[str]:
    """Whose retrieval the monitors report; nothing when they are off."""
    if not config.monitor.every_steps:
        return []
    if rows.held_out is not None:
        return [f"gallery     {len(rows.held_out)} rows that training never sees"]
    count = min(config.monitor.num_clips, len(rows.manifest))
    return [f"gallery     {count} of the training rows: too few to keep any out of training"]


def _disk(config: Config, folder: Path, rows: Rows, task: PretrainTask) -> str:
    """Checkpoints and the disk's free space. The one that is being written lies beside those that are kept."""
    averaged = None if config.train.ema_decay is None else task.model
    size, kept = checkpoint_bytes(task, config.optim.name, averaged=averaged), config.train.keep_checkpoints
    has_best = rows.held_out is not None and config.monitor.every_steps > 0
    needed = size * (kept + 1) + (module_bytes(task) if has_best else 0)
    there = sum(path.stat().st_size for path in folder.rglob("*.pt"))
    free = shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.is_dir())).free
    if free + there < needed:
        warnings.warn(
            f"{folder}: {_size(free)} are free, and up to {_size(needed - there)} more will be taken by checkpoints. "
            "Make room, choose another disk with --out, or lower train.keep_checkpoints.",
            stacklevel=2,
        )
    return f"disk        {kept} checkpoints of {_size(size)}{' and the best weights' * has_best}; {_size(free)} free"


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:.0f} MiB" if num_bytes < 10 * 2**30 else f"{num_bytes / 2**30:.0f} GiB"
