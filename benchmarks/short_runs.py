"""Long trainings in short runs: stopped when time is up, and continued bit for bit by the next run."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from avssl.engine import Checkpointer, Loader, LoopSettings, Schedule, Task, fit

SLICE_STEPS = 50
"""Steps between checks of the time."""


Job = TypeVar("Job")


class OutOfTime(Exception):  # noqa: N818 (nothing went wrong)
    """Raised when time is up; the next run continues the training."""


def fit_in_runs(
    task: Task,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    settings: LoopSettings,
    folder: Path,
    until: float,
) -> None:
    """Train ``task`` as :func:`avssl.engine.fit` does, over several calls.

    Args:
        task: Passed to :func:`avssl.engine.fit`, like the other arguments.
        loader: Loader with a state to continue from.
        optimizer: Optimizer of the task's parameters.
        schedule: Schedule of the whole training, however often it is stopped.
        settings: ``total_steps`` is the length of the whole training.
        folder: Folder that keeps the training between calls; removed at its end.
        until: Time to stop, by :func:`time.monotonic`. At least one slice of steps is made.

    Raises:
        OutOfTime: If the training has not ended by then.
    """
    checkpointer = Checkpointer(folder)
    newest = checkpointer.latest()
    done = 0 if newest is None else int(newest.stem.removeprefix("step-"))
    while True:
        stop = min(done + SLICE_STEPS, settings.total_steps)
        done = fit(
            task,
            loader,
            optimizer,
            schedule,
            settings=replace(settings, total_steps=stop, checkpoint_every=stop),
            checkpointer=checkpointer,
            resume=True,
            progress=sys.stderr.isatty(),
        ).step
        if done == settings.total_steps:
            break
        if time.monotonic() > until:
            raise OutOfTime(f"{folder.name}: {done} of {settings.total_steps} steps; the next run goes on")
    shutil.rmtree(folder)


def work(todo: Callable[[], list[Job]], run: Callable[[Job], dict[str, Any]], until: float) -> None:
    """Run the first remaining job, again and again, until none is left or time is up.

    Args:
        todo: Returns the remaining jobs.
        run: Runs a job and returns its row; may raise :class:`OutOfTime`.
        until: Time to stop, by :func:`time.monotonic`.
    """
    while left := todo():
        if time.monotonic() > until:
            print(f"left for the next run: {len(left)} rows", flush=True)
            return
        try:
            seconds = run(left[0])["seconds"]
        except OutOfTime as unfinished:
            print(f"{unfinished}; {len(left)} rows are left", flush=True)
            return
        print(f"{left[0]}: {seconds:.0f} s", flush=True)
