"""Names of the numbers that a run logs, found by one step on noise before the run begins."""

from __future__ import annotations

import warnings

import torch

from avssl.config import Config
from avssl.core.batch import Batch, BatchIndex
from avssl.core.needs import TemporalWindows
from avssl.engine.metrics_log import OF_EVERY_RUN
from avssl.training.build import build_sampling, build_task, stand_in_rows
from avssl.training.monitors import EmbeddingMonitor, FixedClips
from avssl.training.monitors.probe import NUMBERS
from avssl.training.tasks import PretrainTask

_CLIPS = 4


def metric_names(config: Config) -> list[str]:
    """Return the names in ``metrics.jsonl`` of a run with these settings.

    Numbers of the linear probe are among them, which only runs on labeled rows measure. The networks are built on the
    CPU, without public weights.
    """
    task = build_task(config, stand_in_rows(config)).train()
    assert task.transform.standardize is not None, "build_transform always gives it"
    mean = task.transform.standardize.mean
    task.transform.standardize.set_statistics(torch.zeros_like(mean), torch.ones_like(mean))
    windows = task.objective.needs.windows
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # what noise looks like is no concern
        names = [*OF_EVERY_RUN, *_terms(task, noise(config, windows))]
        if config.monitor.every_steps:
            gallery = FixedClips(lambda: iter([noise(config)]))
            names += EmbeddingMonitor(gallery, 1, maps=task.objective.needs.maps).run(task.eval())
            names += NUMBERS if config.monitor.probe_clips else ()
    return list(dict.fromkeys(names))


def _terms(task: PretrainTask, batch: Batch) -> list[str]:
    """Return the names of the terms of the loss in the first step of a run, near its end, and in later epochs."""
    names: list[str] = list(task.objective.later_terms)
    task.on_epoch_start(0)
    for share_done in (0.0, 0.99):
        task.on_step_start(share_done)
        with torch.no_grad():
            names += task(batch).terms
            task.after_step()
    return names


def noise(config: Config, windows: TemporalWindows | None = None) -> Batch:
    """Return a raw batch of random frames and samples."""
    sampling, windows = build_sampling(config), windows or TemporalWindows()
    height = sampling.short_side or config.transform.video.size
    frames = (_CLIPS, windows.num_views * sampling.num_frames, 3, height, height)
    rows = torch.arange(_CLIPS)
    return Batch(
        torch.randint(0, 256, frames, dtype=torch.uint8),
        0.1 * torch.randn(_CLIPS, windows.num_audio * sampling.num_samples),
        BatchIndex(rows, rows, rows),
        torch.full((_CLIPS, 2), height),
    )
