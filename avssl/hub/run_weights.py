"""First and last weights of a pretraining run: those of torchvision, and its releases."""

from __future__ import annotations

import logging
import warnings
import zlib

import numpy as np

from avssl.config import Config
from avssl.data.splits.recordings import file_names
from avssl.engine import Checkpointer, CheckpointError, FitResult, Precision, load_checkpoint
from avssl.engine.replicas import unwrapped
from avssl.hub.converters import load_torchvision
from avssl.hub.pretrained import save_pretrained
from avssl.hub.training_world import FEWEST_CLIPS, MOST_CLIPS, TrainingWorld, measure_world
from avssl.models import ClipEncoder
from avssl.training.monitors import BEST_BY
from avssl.training.rows import Rows
from avssl.training.run_directory import RunDirectory
from avssl.training.setup import sample_clips
from avssl.training.tasks import PretrainTask

_LOGGER = logging.getLogger(__name__)


def load_video_weights(path: str, task: PretrainTask) -> None:
    """Load weights of torchvision into the video encoder, and into that of the momentum model."""
    load_torchvision(task.model.video_encoder, path)
    if task.target is not None:
        load_torchvision(task.target.model.video_encoder, path)
    _LOGGER.info("video       starts from %s", path)


def release_run(config: Config, run: RunDirectory, rows: Rows, task: PretrainTask, result: FitResult) -> str:
    """Write ``weights/``, and ``weights_best/`` if the run has held-out rows; return a line for each release.

    The best weights are those with the best retrieval among the held-out rows. They replace the task's.
    """
    about = {
        "epochs": config.optim.epochs,
        "clips seen": result.samples_seen,
        "hours in the loop": round(result.wall_seconds / 3600, 2),
        "rows": len(rows.manifest),
        "clip list": rows.manifest.hash(),
        "seed": config.train.seed,
    }
    save_pretrained(run.weights, task.model, task.transform, config, about, worlds=_worlds(config, rows, task))
    lines = f"weights     {run.weights}"
    best = Checkpointer(run.checkpoints).best
    if not best.exists():
        return lines
    try:
        state = load_checkpoint(best)
    except CheckpointError as error:
        earlier = "are those of an earlier end of this run" if run.weights_best.is_dir() else "are not written"
        warnings.warn(f"{error} {run.weights_best} {earlier}; {run.weights} are the last weights.", stacklevel=2)
    else:
        task.load_weights(state["task"])
        about |= {"step": state["step"], f"held-out {BEST_BY}": round(state["score"], 4)}
        worlds = _worlds(config, rows, task)
        save_pretrained(run.weights_best, task.model, task.transform, config, about, worlds=worlds)
        lines += f"\nbest        step {state['step']}, held-out {BEST_BY} {state['score']:.3f}: {run.weights_best}"
    return lines


def _worlds(config: Config, rows: Rows, task: PretrainTask) -> tuple[TrainingWorld, ...]:
    """Measure what the training clips look and sound like to the model.

    The thresholds are set by the held-out rows; without any, by the rows of one half of the files.
    """
    fitted, held_out = rows.manifest, rows.held_out
    if held_out is None:
        in_half = np.array([zlib.crc32(name.encode()) % 2 == 0 for name in file_names(fitted).to_pylist()])
        fitted, held_out = fitted.select(np.flatnonzero(in_half)), fitted.select(np.flatnonzero(~in_half))
    if min(len(fitted), len(held_out)) < FEWEST_CLIPS // 4 or len(fitted) + len(held_out) < FEWEST_CLIPS:
        return ()
    task.eval()
    encoder = ClipEncoder(unwrapped(task.model), task.transform, Precision())
    clips = (sample_clips(config, manifest, MOST_CLIPS // 2) for manifest in (fitted, held_out))
    world = measure_world(encoder, *((batch for batch, _, _ in loader) for loader in clips))
    return () if world is None else (world,)
