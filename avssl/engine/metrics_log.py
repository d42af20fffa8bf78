"""The numbers of a run: metrics.jsonl, and the same in every tracker of the run.

Only rank 0 writes. metrics.jsonl is part of the run, so an error in writing it ends the training. A tracker that fails
is left out with one warning, and the training goes on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from avssl.core import distributed
from avssl.core.errors import InputError
from avssl.engine.trackers.json_lines import JsonLines
from avssl.engine.trackers.tracker import Tracker, TrackingState

OF_EVERY_RUN = (
    *("step", "epoch", "samples_seen", "wall_seconds", "lr"),
    *("loss", "grad_norm", "samples_per_second"),
)
"""Numbers that every run logs, besides the terms of its loss and its monitors."""


class MetricsLog:
    """Passes each record of a run on to metrics.jsonl and to the trackers, which start at the first record.

    Args:
        folder: The run directory, created if missing.
        trackers: Where the numbers go besides; see :func:`~avssl.engine.trackers.create_trackers`.

    Example:
        >>> with MetricsLog("runs/second") as log:
        ...     log.write({"step": 10, "loss": 2.5})
        ...     log.write({"step": 20, "loss": float("nan")})
        >>> read_metrics("runs/second")
        [{'step': 10, 'loss': 2.5}, {'step': 20, 'loss': None}]
    """

    def __init__(self, folder: Path | str, trackers: Sequence[Tracker] = ()) -> None:
        self._lines = JsonLines(folder)
        self.path = self._lines.path
        self._state = TrackingState(Path(folder))
        self._trackers = list(trackers)
        self._started: list[Tracker] = []
        self._first, self._repeated = 0, 0

    def start(self, step: int) -> None:
        """Continue after so many steps: remove what a killed run wrote for later ones."""
        if not distributed.is_main():
            return
        self.close()
        self._first, self._repeated = step, step
        if any(not tracker.rewinds for tracker in self._trackers):
            self._repeated = max(step, self._lines.last_step(), self._state["reported"] or 0)
            if self._repeated > step:  # the next resume may start before this step too
                self._state["reported"] = self._repeated
        self._lines.start(step)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record with ``step``; JSON gets NaN and infinity as null, trackers only finite numbers."""
        if "step" not in record:
            raise InputError(f'a record needs "step", got {sorted(record)}.')
        if not distributed.is_main():
            return
        self._lines.log(record)
        for tracker in list(self._trackers):
            if tracker not in self._started:
                self._started.append(tracker)
                self._guarded(tracker, lambda tracker: tracker.start(self._first))
        for tracker in list(self._trackers):
            if tracker.rewinds or record["step"] > self._repeated:
                self._guarded(tracker, lambda tracker: tracker.log(record))

    def close(self, *, failed: bool = False) -> None:
        """Close the files and finish the trackers; a later :meth:`write` opens them again.

        Args:
            failed: Whether the run ended before its last step.
        """
        started, self._started = self._started, []
        for tracker in started:
            if tracker in self._trackers:
                self._guarded(tracker, lambda tracker: tracker.finish(failed=failed))
        self._lines.finish(failed=failed)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close(failed=error[0] is not None)

    def _guarded(self, tracker: Tracker, call: Callable[[Tracker], None]) -> None:
        """Call a tracker, and leave it out with a warning if it fails."""
        try:
            call(tracker)
        except Exception as error:
            self._trackers.remove(tracker)
            name = type(tracker).__name__
            warnings.warn(
                f"{name} is left out from here on: {type(error).__name__}: {error}. The training goes on, and "
                f"{self.path} has all numbers.",
                stacklevel=3,
            )
