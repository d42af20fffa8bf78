"""First and last weights of a pretraining run: those of torchvision, and its releases."""

from __future__ import annotations

import logging
import warnings

from avssl.config import Config
from avssl.engine import Checkpointer, CheckpointError, FitResult, load_checkpoint
from avssl.hub.converters import load_torchvision
from avssl.hub.pretrained import save_pretrained
from avssl.training.monitors import BEST_BY
from avssl.training.rows import Rows
from avssl.training.run_directory import RunDirectory
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
    save_pretrained(run.weights, task.model, task.transform, config, about)
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
        task.load_state_dict(state["task"])
        about |= {"step": state["step"], f"held-out {BEST_BY}": round(state["score"], 4)}
        save_pretrained(run.weights_best, task.model, task.transform, config, about)
        lines += f"\nbest        step {state['step']}, held-out {BEST_BY} {state['score']:.3f}: {run.weights_best}"
    return lines
