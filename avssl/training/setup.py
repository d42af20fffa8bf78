"""What a run finds out before its first step: its rows, its batch, its statistics, its precision and its time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from avssl.config import Config, ConfigError
from avssl.core import distributed
from avssl.core.batch import Batch, BatchIndex
from avssl.core.draws import epoch_order
from avssl.core.manifest import Manifest, ManifestError, is_url, read_manifest
from avssl.data.eval_loader import EvalLoader
from avssl.data.health.indexing import index_folder
from avssl.data.health.report import MIN_SECONDS, HealthSettings
from avssl.data.splits import held_out_rows
from avssl.engine import Precision, StepCost, Task, all_precisions, probe_precision, state_bytes, step_cost
from avssl.models.classifier import Inputs
from avssl.training.build import build_dataset, default_workers
from avssl.training.tasks import PretrainTask
from avssl.transforms import ClipTransform, estimate_statistics

MIN_ROWS = 8
"""Fewer rows give a contrastive loss nothing to tell apart."""
MIN_GALLERY = 32
"""Rows; retrieval among fewer says little, so they are rather trained on."""
STATISTICS_ROWS = 256
"""Rows whose sound sets the mean and spread of the spectrogram's bins."""
_COUNTED_CLIPS = 4  # of a step whose cost is counted
PROBE_CLIPS = 16
"""Clips of a step when precisions are timed on a CPU."""


def find_rows(config: Config, *, min_rows: int = MIN_ROWS, progress: bool = False) -> tuple[Manifest, pa.Table]:
    """The rows of ``data.source``, a folder or a manifest.

    Returns:
        At least ``min_rows`` rows, by default as many as training needs, and a table of the files that gave none.

    Raises:
        ManifestError: If there are fewer, or more files are unusable than ``data.max_bad_fraction`` allows.
    """
    data = config.data
    source = Path(data.source)
    if source.is_dir():
        journal = source / "manifest.health.jsonl"  # of an earlier "avssl index": what it knows need not be found again
        found = index_folder(
            source,
            segment_seconds=data.segment_seconds,
            segment_over_seconds=data.segment_over_seconds,
            health=HealthSettings(backend=data.backend, min_seconds=min(MIN_SECONDS, config.sampling.audio_seconds)),
            journal=journal if journal.is_file() else None,
            progress=progress,
        )
        manifest, unusable = found.manifest, found.failures_table()
        if found.bad_fraction > data.max_bad_fraction:
            raise ManifestError(
                f"{source}: {len(found.failures)} of its files cannot be used, more than the allowed share of "
                f"{data.max_bad_fraction:g} (data.max_bad_fraction): {'; '.join(reasons(unusable))}. "
                f"See them all with: avssl index {source}"
            )
    else:
        if not is_url(data.source) and not source.exists():
            raise ManifestError(f"{source}: no such folder or manifest.")
        manifest = of_split(read_manifest(data.source), data.split)
        unusable = pa.table({n: pa.array([], pa.string()) for n in ("id", "path", "stream", "reason", "message")})
    if len(manifest) < min_rows:
        raise ManifestError(
            f"{source}: {len(manifest)} usable rows, but at least {min_rows} are needed. "
            "Add videos, or cut them into more rows with --data.segment_seconds and --data.segment_over_seconds."
        )
    return manifest, unusable


def of_split(manifest: Manifest, split: str) -> Manifest:
    """The rows of a split; all of them where no split is given."""
    if split == "all" or "split" not in manifest:
        return manifest
    there = sorted({name for name in manifest["split"] if name})
    if not there:
        return manifest
    if split not in there:
        raise ManifestError(f"no row is of data.split ({split}); the manifest has {', '.join(there)}, or use all.")
    return manifest.where(split=split)


def hold_out(config: Config, manifest: Manifest) -> tuple[Manifest, Manifest | None]:
    """The rows that are trained on, and those of the monitors' gallery that are not.

    The gallery is of ``monitor.split`` where the manifest has rows of it that are not trained on, and
    else a few files kept out of training (:func:`~avssl.data.splits.held_out_rows`). Neither
    depends on the seed.

    Returns:
        All rows and None when nothing is measured, or too few rows could be kept out.
    """
    settings = config.monitor
    if not settings.every_steps:
        return manifest, None
    is_trained_on = config.data.split in ("all", settings.split)
    other = None if is_trained_on else _rows_of_split(config.data.source, settings.split)
    if other is not None:
        return manifest, other.select(held_out_rows(other, settings.num_clips))
    keep = held_out_rows(manifest, min(settings.num_clips, int(settings.held_out_fraction * len(manifest))))
    if keep.sum() < MIN_GALLERY:
        return manifest, None
    return manifest.select(~keep), manifest.select(keep)


def _rows_of_split(source: str, split: str) -> Manifest | None:
    """Rows of a manifest's split, or None where there are too few, or the source is a folder."""
    if not is_url(source) and Path(source).is_dir():
        return None
    manifest = read_manifest(source)
    rows = manifest.where(split=split) if "split" in manifest else manifest.select(np.empty(0, dtype=np.int64))
    return rows if len(rows) >= MIN_GALLERY else None


def reasons(unusable: pa.Table) -> list[str]:
    """How many files by reason: ``["3 no_audio"]``."""
    counts = unusable["reason"].value_counts().to_pylist()
    return [f"{count['counts']} {count['values']}" for count in counts]


def fitting_batch_size(batch_size: int, num_rows: int) -> int:
    """The largest batch up to ``batch_size`` that the rows fill and the processes share evenly.

    Raises:
        ConfigError: If ``batch_size`` itself cannot be shared.
    """
    world = distributed.world_size()
    if batch_size % world:
        raise ConfigError(f"optim.batch_size ({batch_size}) must be a multiple of the {world} processes.")
    return min(batch_size, num_rows // world * world)


def num_workers(config: Config) -> int:
    """Decoding processes of this rank."""
    return default_workers() if config.data.num_workers is None else config.data.num_workers


def sample_clips(config: Config, manifest: Manifest, count: int, inputs: Inputs = "both") -> EvalLoader:
    """Up to ``count`` clips, one a row, whose choice depends on the seed and the ids alone."""
    dataset = build_dataset(config, manifest, inputs)
    chosen = epoch_order(config.train.seed, 0, dataset.id_keys)[:count].tolist()
    return EvalLoader(dataset, PROBE_CLIPS, rows=chosen, num_workers=num_workers(config))


def sample_batch(config: Config, manifest: Manifest, inputs: Inputs) -> Batch:
    """A raw batch of readable clips, of one stream or of both.

    Raises:
        ManifestError: If none of the rows that are tried can be read.
    """
    loader = sample_clips(config, manifest, PROBE_CLIPS, inputs)
    for batch, _, _ in loader:
        return batch
    failures = list(loader.ledger)
    raise ManifestError(f"none of {len(failures)} rows that were tried can be read: {failures[0].message}")


def set_statistics(
    config: Config, manifest: Manifest, transform: ClipTransform, *, progress: bool = False
) -> tuple[Batch, float]:
    """Estimates the spectrogram's statistics, the same on any number of processes.

    Returns:
        A raw batch, and the seconds it takes to read the clips of one step.

    Raises:
        ManifestError: If none of the rows that are tried can be read.
    """
    assert transform.standardize is not None, "build_transform always gives it"
    loader = sample_clips(config, manifest, STATISTICS_ROWS)
    seen: list[Batch] = []
    num_clips = 0

    def spectrograms() -> Iterator[Tensor]:
        nonlocal num_clips
        for batch, _, _ in tqdm(loader, "statistics", unit="batch", delay=1.0, disable=not progress):
            if not seen:
                seen.append(batch)
            num_clips += len(batch)
            yield transform.spectrogram(batch.audio)
        if not seen:
            failures = list(loader.ledger)
            raise ManifestError(f"none of {len(failures)} rows that were tried can be read: {failures[0].message}")

    start = time.perf_counter()
    transform.standardize.set_statistics(*estimate_statistics(spectrograms()))
    return seen[0], (time.perf_counter() - start) / num_clips * _local_batch(config)


def choose_precision(config: Config, task: Task, sample: Batch, device: torch.device) -> tuple[Precision, float]:
    """The fastest of the precisions that the settings allow, and the seconds of a step in it."""
    train = config.train
    candidates = [
        precision
        for precision in all_precisions()
        if train.precision in ("auto", precision.name) and train.memory_format in ("auto", precision.memory_format)
    ]
    local_batch = _local_batch(config)
    num_clips = local_batch if device.type == "cuda" else min(PROBE_CLIPS, local_batch)
    batch = _repeated(sample, num_clips).to(device)
    best, seconds = probe_precision(candidates, precision_step(task, batch, device), num_steps=2)
    return best, seconds[str(best)] * local_batch / num_clips


def precision_step(task: Task, batch: Batch, device: torch.device) -> Callable[[Precision], None]:
    """What :func:`~avssl.engine.probe_precision` times: forward and backward of a copy of ``task`` on a raw batch."""
    copies: dict[Precision, Any] = {}

    def run_step(precision: Precision) -> None:
        if precision not in copies:
            copies.clear()  # one at a time: a big model may not fit four times
            copies[precision] = copy.deepcopy(task).to(device).train()
        copies[precision].zero_grad()
        with precision.applied_to(copies[precision], device):
            copies[precision](batch).total.backward()

    return run_step


def measure_step(config: Config, task: PretrainTask, sample: Batch, precision: Precision) -> tuple[StepCost, int]:
    """What one step of this rank costs, and the memory of what stays from step to step, in bytes.

    That is the weights, their gradients, the optimizer's means, a weight average, and what the objective
    keeps: its memory of the corpus or its queue, and the momentum model. Counted on the CPU on a few clips,
    whose share grows with the batch; the scores of an objective, which grow with its square, are counted
    as if they did not.
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


def _repeated(batch: Batch, num_clips: int) -> Batch:
    """A raw batch of exactly ``num_clips``, its clips repeated as often as it takes."""
    assert batch.valid_hw is not None, "a raw batch has valid_hw"
    rows = torch.arange(num_clips) % len(batch)
    index = BatchIndex(batch.index.row[rows], batch.index.group[rows], batch.index.key[rows])
    chroma = None if batch.chroma is None else batch.chroma[rows]
    return Batch(batch.video[rows], batch.audio[rows], index, batch.valid_hw[rows], chroma)


def _local_batch(config: Config) -> int:
    return config.optim.batch_size // distributed.world_size()
