"""MLflow."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any

from avssl.engine.trackers.tracker import PROJECT, TrackedRun, numbers_of

_PER_REQUEST = 100
"""Most settings that MLflow takes at once."""
_MAX_LETTERS = 500
"""Length of a setting that every server takes."""


class MLflow:
    """Logs to the server or store of ``MLFLOW_TRACKING_URI``; if that is unset, to ``mlflow.db`` in this folder.

    ``MLFLOW_EXPERIMENT_NAME`` is the experiment.

    Args:
        run: The run.
    """

    rewinds = False

    def __init__(self, run: TrackedRun) -> None:
        self._tracked = run
        self._client: Any = None
        self._id = ""

    def start(self, step: int) -> None:
        # A server that does not answer must not hold up the other ranks for the hour that MLflow would wait.
        for name, value in (("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")):
            os.environ.setdefault(name, value)
        import mlflow

        self._client = mlflow.MlflowClient()
        state = self._tracked.state
        known = state["mlflow"]
        if known is None:
            created = self._client.create_run(self._experiment(), run_name=self._tracked.name)
            self._id = state["mlflow"] = created.info.run_id
            self._log_settings()
        else:
            self._id = known
            self._client.update_run(self._id, status="RUNNING")

    def log(self, record: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 10**6
        numbers = numbers_of(record)
        self._client.log_batch(
            self._id, metrics=[Metric(_lawful(name), value, now, record["step"]) for name, value in numbers.items()]
        )

    def finish(self, *, failed: bool) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.set_terminated(self._id, status="FAILED" if failed else "FINISHED")

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        identity: str = self._client.create_experiment(name) if found is None else found.experiment_id
        return identity

    def _log_settings(self) -> None:
        from mlflow.entities import Param

        params = [Param(name, str(value)[:_MAX_LETTERS]) for name, value in self._tracked.settings.items()]
        for start in range(0, len(params), _PER_REQUEST):
            self._client.log_batch(self._id, params=params[start : start + _PER_REQUEST])


def _lawful(name: str) -> str:
    """Return the name of a number without characters that MLflow rejects: ``R@10`` becomes ``R_at_10``."""
    return re.sub(r"[^\w./ :-]", "_", name.replace("@", "_at_"))
