"""The protocol of a tracker, and what it knows of its run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from avssl.core.data_files import read_json
from avssl.core.whole_file import write_json

PROJECT = "avssl"
"""Project, or experiment, of runs whose user names no other."""


class Tracker(Protocol):
    """Receives the records of a run, on rank 0 alone."""

    rewinds: bool
    """True if :meth:`start` removes the records of later steps. Otherwise records that a resumed run repeats after its
    checkpoint are not logged a second time."""

    def start(self, step: int) -> None:
        """Begin the run, or continue it after so many steps."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Take a record, whose ``step`` is its place."""

    def finish(self, *, failed: bool) -> None:
        """Write everything, and mark the run as failed or finished; a later :meth:`start` continues it."""


class TrackingState:
    """Plain values in ``trackers.json`` of a run directory, so that a resume continues the runs of the trackers.

    Args:
        folder: The run directory.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "trackers.json"

    def __getitem__(self, name: str) -> Any:
        """Return a value, or None."""
        return self._read().get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        write_json(self._path, {**self._read(), name: value})

    def _read(self) -> dict[str, Any]:
        return dict(read_json(self._path)) if self._path.exists() else {}


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers show it."""

    folder: Path
    """Directory of the run, or of a fold of it."""
    name: str
    """Name to show."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings to show, such as ``{"optim.lr": 1e-3}``."""

    @property
    def state(self) -> TrackingState:
        """Ids of this run in the trackers, by their names."""
        return TrackingState(self.folder)


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of a record, without its step."""
    return {
        name: value
        for name, value in record.items()
        if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    }
