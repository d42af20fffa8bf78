"""Trackio."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

from avssl.engine.trackers.tracker import PROJECT, TrackedRun, numbers_of


class Trackio:
    """Logs to Trackio's local database, which ``trackio show`` displays.

    ``TRACKIO_PROJECT`` is the project, ``TRACKIO_DIR`` the folder of the database; ``TRACKIO_SPACE_ID`` and
    ``TRACKIO_SERVER_URL`` log to a Space or a server instead.

    Args:
        run: The run.
    """

    rewinds = False

    def __init__(self, run: TrackedRun) -> None:
        self._tracked = run
        self._run: Any = None

    def start(self, step: int) -> None:
        import trackio

        state = self._tracked.state
        # Trackio continues the run of a name, and two run directories may have the same name.
        name = state["trackio"] or f"{self._tracked.name}-{uuid.uuid4().hex[:8]}"
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=name,
            config=dict(self._tracked.settings),
            resume="allow",
            embed=False,
        )
        state["trackio"] = name

    def log(self, record: Mapping[str, Any]) -> None:
        self._run.log(numbers_of(record), step=record["step"])

    def finish(self, *, failed: bool) -> None:
        import trackio

        run, self._run = self._run, None
        if run is not None:
            trackio.finish()
