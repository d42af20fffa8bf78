"""Trackers of the numbers of a run: metrics.jsonl, TensorBoard, W&B, MLflow and Trackio behind one protocol."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from avssl.core.errors import InputError
from avssl.core.registry import build
from avssl.engine.trackers.tracker import TrackedRun, Tracker

TRACKERS = {
    "tensorboard": "avssl.engine.trackers.tensorboard:TensorBoard",
    "wandb": "avssl.engine.trackers.wandb:Wandb",
    "mlflow": "avssl.engine.trackers.mlflow:MLflow",
    "trackio": "avssl.engine.trackers.trackio:Trackio",
}
"""Class of each tracker that a run may have beside metrics.jsonl. The name is also that of its library and extra."""


class TrackerError(InputError):
    """A tracker whose library is not installed."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise the error of a tracker whose library is missing, without importing any.

    Raises:
        TrackerError: With the line of pip that installs it.
    """
    for name in names:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a folder of this name, such as wandb/ of earlier runs, is none
            raise TrackerError(
                f"train.trackers: {name} is not installed: pip install 'avssl[{name}]'. "
                "metrics.jsonl is written without any tracker."
            )


def create_trackers(names: Sequence[str], run: TrackedRun) -> list[Tracker]:
    """Return the trackers of a run, each once. Their libraries are imported when they start."""
    return [build("tracker", TRACKERS, name, run) for name in dict.fromkeys(names)]
