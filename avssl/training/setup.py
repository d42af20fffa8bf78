"""Set up a run: fit the batch size, estimate spectrogram statistics, choose the precision, and measure a step."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avssl.config import Config, ConfigError
from avssl.core import distributed
from avssl.core.batch import Batch, BatchIndex
from avssl.core.cpus import decoding_workers
from avssl.core.draws import epoch_order
from avssl.core.exchanges import Exchange, noted_exchanges
from avssl.core.manifest import Manifest, ManifestError
from avssl.core.needs import TemporalWindows
from avssl.core.progress import Bar
from avssl.data.eval_loader import EvalLoader
from avssl.engine import (
    Precision,
    StepCost,
    Task,
    all_precisions,
    computes_bf16,
    probe_precision,
    state_bytes,
    step_cost,
)
from avssl.engine.precision import LAYOUTS
from avssl.engine.precision_probe import Trial
from avssl.engine.sharding import shard, unsharded_copy
from avssl.engine.views import has_factorized
from avssl.models.classifier import Inputs
from avssl.training.build import build_dataset
from avssl.training.tasks import PretrainTask
from avssl.transforms import ClipTransform, estimate_statistics

_LOGGER = logging.getLogger(__name__)

STATISTICS_ROWS = 256
"""Rows whose audio gives the mean and standard deviation of the spectrogram bins."""
PROBE_CLIPS = 16
"""Clips per step when precisions are timed on a CPU."""
_COUNTED_CLIPS = 4
"""Clips per step when operations and memory are counted."""


# ---------------------------------------------------------------- batch size


def fitting_batch_size(batch_size: int, num_rows: int) -> int:
    """Return the largest batch size up to ``batch_size`` that the rows fill and the processes share evenly.

    Raises:
        ConfigError: If the processes cannot share ``batch_size`` evenly.
    """
    world = distributed.world_size()
    if batch_size % world:
        raise ConfigError(f"optim.batch_size ({batch_size}) must be a multiple of the {world} processes.")
    return min(batch_size, num_rows // world * world)


def with_fitting_batch(config: Config, num_rows: int) -> Config:
    """Return the settings with a batch size that the rows fill."""
    requested = config.optim.batch_size
    fitting = fitting_batch_size(requested, num_rows)
    if fitting < requested and distributed.is_main():
        _LOGGER.info("batch       %d clips instead of %d: there are only %d rows", fitting, requested, num_rows)
    return replace(config, optim=replace(config.optim, batch_size=fitting))


def _local_batch(config: Config) -> int:
    return config.optim.batch_size // distributed.world_size()


# ---------------------------------------------------------------- sample clips


def sample_clips(config: Config, manifest: Manifest, count: int, inputs: Inputs = "both") -> EvalLoader:
    """Return a loader of up to ``count`` clips, one per row, chosen by the seed and the ids alone."""
    dataset = build_dataset(config, manifest, inputs)
    chosen = epoch_order(config.train.seed, 0, dataset.id_keys)[:count].tolist()
    return EvalLoader(dataset, PROBE_CLIPS, rows=chosen, num_workers=decoding_workers(config.data.num_workers))


def sample_batch(config: Config, manifest: Manifest, inputs: Inputs) -> Batch:
    """Return a raw batch of readable clips; raise ManifestError if none of the sampled rows can be read."""
    loader = sample_clips(config, manifest, PROBE_CLIPS, inputs)
    for batch, _, _ in loader:
        return batch
    raise _none_readable(loader)


def _none_readable(loader: EvalLoader) -> ManifestError:
    failures = list(loader.ledger)
    return ManifestError(f"none of the {len(failures)} sampled rows can be read: {failures[0].message}")


# ---------------------------------------------------------------- statistics, precision, time


@dataclass(frozen=True)
class PrecisionChoice:
    """Precision of a run, and why it was chosen."""

    precision: Precision
    step_seconds: float
    """Time of forward and backward of one step."""
    reason: str
    """Measured times, for the log."""

    def __str__(self) -> str:
        return f"{self.precision}, {self.reason}"


@dataclass(frozen=True)
class Measurements:
    """Precision and times measured before the first step. Times are rank 0's."""

    choice: PrecisionChoice
    """Fastest number format and memory layout that the settings allow, and the time of a step in it."""
    sample: Batch
    """A raw batch."""
    read_seconds: float
    """Time to decode the clips of one step."""
    is_on_cpu: bool
    """True if model and decoding share the CPU."""

    @property
    def precision(self) -> Precision:
        return self.choice.precision

    @property
    def model_seconds(self) -> float:
        """Time of forward and backward of one step."""
        return self.choice.step_seconds

    @property
    def step_seconds(self) -> float:
        """Expected time of a step: on a GPU, decoding overlaps with the model."""
        if self.is_on_cpu:
            return self.model_seconds + self.read_seconds
        return max(self.model_seconds, self.read_seconds)


def measure(config: Config, manifest: Manifest, task: PretrainTask, device: torch.device) -> Measurements:
    """Set the task's spectrogram statistics, choose the precision, and time a step. Every rank must call it."""
    sample, read_seconds = set_statistics(config, manifest, task.transform)
    sample = _with_windows(sample, task.objective.needs.windows)
    choice, read_seconds = distributed.broadcast_object((choose_precision(config, task, sample, device), read_seconds))
    return Measurements(choice, sample, read_seconds, device.type == "cpu")


def with_measured(config: Config, measured: Measurements, total_steps: int) -> Config:
    """Return the settings with precision and checkpoint interval resolved, as a resume must not measure again."""
    train, precision = config.train, measured.precision
    every = train.checkpoint_every_steps or math.ceil(train.checkpoint_every_seconds / measured.step_seconds)
    train = replace(
        train,
        precision=precision.name,
        memory_format=precision.memory_format,
        checkpoint_every_steps=max(1, min(every, total_steps)),
    )
    return replace(config, train=train)


def set_statistics(
    config: Config, manifest: Manifest, transform: ClipTransform, *, progress: bool = False
) -> tuple[Batch, float]:
    """Estimate the spectrogram statistics and set them. They do not depend on the number of processes.

    A front end with statistics of its own keeps them.

    Returns:
        A raw batch, and the time in seconds to read the clips of one step.

    Raises:
        ManifestError: If none of the sampled rows can be read.
    """
    assert transform.standardize is not None, "build_transform always gives it"
    is_fixed = transform.spectrogram.fixed_statistics is not None
    loader = sample_clips(config, manifest, PROBE_CLIPS if is_fixed else STATISTICS_ROWS)
    seen: list[Batch] = []
    num_clips = 0

    def spectrograms() -> Iterator[Tensor]:
        nonlocal num_clips
        for batch, _, _ in Bar(loader, "statistics", unit="batch", delay=1.0, show=progress):
            if not seen:
                seen.append(batch)
            num_clips += len(batch)
            if not is_fixed:
                yield transform.spectrogram(batch.audio)
        if not seen:
            raise _none_readable(loader)

    start = time.perf_counter()
    if is_fixed:  # only read a batch, and how long that takes
        list(spectrograms())
    else:
        transform.standardize.set_statistics(*estimate_statistics(spectrograms()))
    return seen[0], (time.perf_counter() - start) / num_clips * _local_batch(config)


def choose_precision(config: Config, task: Task, sample: Batch, device: torch.device) -> PrecisionChoice:
    """Return the fastest precision that the settings allow.

    "auto" leaves out bf16 where the processor would emulate it, layouts that another setting excludes, and views of
    networks without convolutions that have any.
    """
    train, has_bf16 = config.train, computes_bf16(device)
    layout = "contiguous" if train.is_contiguous else train.memory_format
    names = {train.precision} if train.precision != "auto" else {"fp32", "bf16"} if has_bf16 else {"fp32"}
    layouts = {layout} if layout != "auto" else set(LAYOUTS)
    if layout == "auto" and not has_factorized(task):
        layouts.remove("channels_last_2d")
    candidates = [
        precision for precision in all_precisions() if precision.name in names and precision.memory_format in layouts
    ]
    local_batch = _local_batch(config)
    num_clips = local_batch if device.type == "cuda" else min(PROBE_CLIPS, local_batch)
    batch = _repeated(sample, num_clips).to(device)
    is_sharded = train.parallel == "fsdp" and distributed.world_size() > 1
    trial = sharded_trial(task, batch, device) if is_sharded else precision_trial(task, batch, device)
    times = probe_precision(candidates, trial)
    reason = f"{'the fastest here' if len(candidates) > 1 else 'as set'} in a step of {num_clips} clips: {times}"
    if train.precision == "auto" and not has_bf16:
        reason += "; bf16 is left out, as this processor would emulate it"
    fastest = times.fastest
    return PrecisionChoice(fastest, times.seconds[fastest] * local_batch / num_clips, reason)


def precision_trial(task: Task, batch: Batch, device: torch.device) -> Trial:
    """Return what ``probe_precision`` tries: forward and backward of a copy of ``task``.

    All precisions share the copy, as a big model may not fit several times; its kernels are rearranged in between.
    """
    copied = copy.deepcopy(task).to(device).train()

    def step() -> None:
        copied.zero_grad()
        copied(batch).total.backward()

    @contextmanager
    def trial(precision: Precision) -> Iterator[Callable[[], None]]:
        copied.zero_grad()  # gradients in the layout of another precision
        with precision.applied_to(copied, device):
            yield step

    return trial


def sharded_trial(task: Task, batch: Batch, device: torch.device) -> Trial:
    """Return :func:`precision_trial` of networks in shards, as they are trained: no device holds a whole one.

    How weights are gathered depends on the precision, so each has a copy of its own, of which a rank holds a part.
    """
    copies: dict[Precision, Task] = {}

    @contextmanager
    def trial(precision: Precision) -> Iterator[Callable[[], None]]:
        if precision not in copies:
            copied = unsharded_copy(task)
            shard(copied, device, precision)
            copies[precision] = copied.to(device).train()
        copied = copies[precision]

        def step() -> None:
            copied.zero_grad()
            copied(batch).total.backward()

        with precision.applied_to(copied, device):
            yield step
        copied.zero_grad()  # the next precision needs the memory

    return trial


# ---------------------------------------------------------------- cost


def measure_cost(config: Config, task: PretrainTask, sample: Batch, precision: Precision) -> tuple[StepCost, int]:
    """Return the cost of one step of this rank, and the memory in bytes that stays allocated between steps.

    That memory holds weights, gradients, optimizer state, a weight average, the objective's buffers and the
    momentum model. The cost is counted on the CPU with a few clips and scaled to the batch; the similarity
    matrix of an objective, which grows with the square of the batch, is scaled in the same way.
    """
    local_batch = _local_batch(config)
    num_clips = min(_COUNTED_CLIPS, local_batch)
    copied, batch = copy.deepcopy(task).cpu().train(), _repeated(sample, num_clips)
    handle = precision.apply(copied.model, "cpu")
    cost = step_cost(copied.model, lambda: copied(batch).total)
    handle.remove()
    scale = local_batch / num_clips
    state = state_bytes(copied.model, config.optim.name, averaged=config.train.ema_decay is not None)
    kept = [*copied.objective.buffers(), *([] if copied.target is None else copied.target.state_dict().values())]
    return StepCost(round(cost.flops * scale), round(cost.saved_bytes * scale)), state + sum(x.nbytes for x in kept)


def counted_exchanges(task: PretrainTask, sample: Batch, num_clips: int) -> list[Exchange]:
    """Return what processes with so many clips each would exchange for the objective in one step."""
    copied, batch = copy.deepcopy(task).cpu().train(), _repeated(sample, num_clips)
    with noted_exchanges() as exchanges:
        copied(batch).total.backward()
        copied.after_step()
    return exchanges


def _with_windows(batch: Batch, windows: TemporalWindows | None) -> Batch:
    """Return a raw batch with as many windows of each clip as training has, all of them equal."""
    if windows is None:
        return batch
    video, chroma = (
        None if plane is None else plane.repeat(1, windows.num_views, 1, 1, 1) for plane in (batch.video, batch.chroma)
    )
    assert video is not None, "a batch has video"
    return replace(batch, video=video, audio=batch.audio.repeat(1, windows.num_audio), chroma=chroma)


def _repeated(batch: Batch, num_clips: int) -> Batch:
    """Return a raw batch of exactly ``num_clips``, repeating clips where there are fewer."""
    assert batch.valid_hw is not None, "a raw batch has valid_hw"
    rows = torch.arange(num_clips) % len(batch)
    index = BatchIndex(batch.index.row[rows], batch.index.group[rows], batch.index.key[rows])
    chroma = None if batch.chroma is None else batch.chroma[rows]
    return Batch(batch.video[rows], batch.audio[rows], index, batch.valid_hw[rows], chroma)
