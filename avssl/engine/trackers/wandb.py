"""Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from avssl.engine.trackers.tracker import PROJECT, TrackedRun, numbers_of

_LOGIN_SECONDS = 30
"""Time to answer the question for an API key, after which the training goes on without W&B."""


class Wandb:
    """Logs to W&B with its own settings: ``WANDB_MODE``, ``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_DIR`` ...

    With ``WANDB_MODE=offline`` nothing is sent; ``wandb sync`` uploads the folder ``wandb/`` later.

    Args:
        run: The run.
    """

    rewinds = False

    def __init__(self, run: TrackedRun) -> None:
        self._tracked = run
        self._run: Any = None

    def start(self, step: int) -> None:
        import wandb

        state = self._tracked.state
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=self._tracked.name,
            id=state["wandb"],
            resume="allow",
            settings=wandb.Settings(login_timeout=_LOGIN_SECONDS),
        )
        state["wandb"] = self._run.id
        self._run.config.update(dict(self._tracked.settings), allow_val_change=True)

    def log(self, record: Mapping[str, Any]) -> None:
        self._run.log(numbers_of(record), step=record["step"])

    def finish(self, *, failed: bool) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.finish(exit_code=int(failed))
