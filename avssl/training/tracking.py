"""The log of the numbers of a run, with the trackers that its settings name."""

from __future__ import annotations

from pathlib import Path

from avssl.config import Config, FinetuneConfig
from avssl.config.files import flatten, to_dict
from avssl.engine import MetricsLog
from avssl.engine.trackers import TrackedRun, create_trackers


def create_log(config: Config | FinetuneConfig, folder: Path | str, fold: str = "") -> MetricsLog:
    """Return the log of a run, or of a fold of a run.

    Args:
        config: Settings, shown by the trackers.
        folder: Where the numbers are written.
        fold: Name of the fold whose directory ``folder`` is, inside ``folds/`` of the run.
    """
    folder = Path(folder)
    run = folder.resolve().parents[1] if fold else folder.resolve()
    name = f"{run.name}-{fold}" if fold else run.name
    tracked = TrackedRun(folder, name, flatten(to_dict(config)))
    return MetricsLog(folder, create_trackers(config.train.trackers, tracked))
