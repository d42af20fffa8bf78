"""Creation of the monitors of a run."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch

from avssl.config import Config
from avssl.core.cpus import decoding_workers
from avssl.core.draws import epoch_order
from avssl.core.manifest import Manifest
from avssl.data.eval_loader import EvalLoader
from avssl.engine import Precision
from avssl.training.build import build_dataset, needs_of
from avssl.training.monitors.clips import FP32, FixedClips
from avssl.training.monitors.embedding import EmbeddingMonitor
from avssl.training.monitors.probe import ProbeMonitor, single_label

_BATCH = 16


def create_monitors(
    config: Config, manifest: Manifest, held_out: Manifest | None, precision: Precision = FP32
) -> list[EmbeddingMonitor | ProbeMonitor]:
    """Create the monitors of a run: none if ``monitor.every_steps`` is 0, and a probe if rows have labels.

    ``held_out`` is a gallery outside the training rows; None takes some of ``manifest``.
    """
    settings = config.monitor
    if not settings.every_steps:
        return []
    order = _order(config, manifest)
    gallery, rest = held_out, order
    if gallery is None:
        gallery, rest = manifest.select(order[: settings.num_clips]), order[settings.num_clips :]
    clips = _clips(config, gallery, np.arange(len(gallery)))
    monitors: list[EmbeddingMonitor | ProbeMonitor] = [
        EmbeddingMonitor(
            clips, settings.every_steps, precision, held_out=held_out is not None, maps=needs_of(config).maps
        )
    ]
    if settings.probe_clips and "label" in manifest and "label" in gallery:
        labeled = ((row, label) for row in map(int, rest) if (label := single_label(manifest.value(row, "label"))))
        labels: dict[int, str | None] = dict(islice(labeled, settings.probe_clips))
        fitted = _clips(config, manifest, np.array(list(labels), dtype=np.int64))
        monitors.append(ProbeMonitor(fitted, labels, clips, gallery["label"].tolist(), settings.every_steps, precision))
    return monitors


def _order(config: Config, manifest: Manifest) -> np.ndarray:
    """Return the rows, (N,) int64, in an order that depends on their ids and the seed."""
    return epoch_order(config.train.seed + 1, 0, torch.from_numpy(manifest.keys.ids())).numpy()


def _clips(config: Config, manifest: Manifest, rows: np.ndarray) -> FixedClips:
    """Return one clip of each row, from its middle."""
    dataset = build_dataset(config, manifest)
    workers = decoding_workers(config.data.num_workers)
    return FixedClips(lambda: (batch for batch, _, _ in EvalLoader(dataset, _BATCH, rows=rows, num_workers=workers)))
