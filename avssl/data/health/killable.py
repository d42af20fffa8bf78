"""Run a function over many files in worker processes that can be killed.

Decoders are millions of lines of C that parse untrusted files. One that hangs is killed at its deadline, one
that crashes ends only its process, and memory is limited; each fault ends the check of one file,
not the run. Answers come back as JSON, so a compromised process cannot send code.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import resource
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from avssl.core.children import Child
from avssl.core.cpus import num_cores
from avssl.core.engines import current_engine
from avssl.core.errors import InputError
from avssl.core.parallel import parallel_map

Task = Callable[[str], dict[str, Any]]
"""The function of a file; its result must be plain values."""

_FILES_PER_WORKER = 500  # then a new process, as decoders leak memory on broken files
_MAX_ANSWER_BYTES = 2**20
_FILES_PER_JOB = 16
"""Files of a job of an engine: checking one takes about as long as handing it over."""


@dataclass(frozen=True)
class Outcome:
    """The result of one file."""

    number: int
    """Index of the file in the list."""
    answer: dict[str, Any] | None
    """Return value of the task; None if it failed."""
    failure: Literal["", "timeout", "crashed", "bug"] = ""
    """Kind of failure; "bug" is an exception in the task, after which the process continues."""
    detail: str = ""
    """Description of the failure."""


def run_killable(
    task: Task,
    paths: Sequence[str],
    *,
    num_workers: int | None = None,
    timeout_seconds: float | Callable[[str], float] = 60.0,
    memory_gib: float = 4.0,
) -> Generator[Outcome]:
    """Run ``task`` on every path, several at a time.

    A file whose process dies is tried once more in a new one, as an earlier file may be the cause. On an engine
    (:func:`avssl.core.engines.working_on`), the processes and limits are those of its machines.
    Closing the iterator, or the death of this process, ends all workers.

    Args:
        task: Called in forked processes, which share this one's memory as it was.
        num_workers: Processes, >= 1; default: one per core.
        timeout_seconds: Time limit per file, or a function of its path.
        memory_gib: Memory limit per process beyond what it starts with, in GiB.

    Yields:
        One outcome for each path, in the order of completion.
    """
    if num_workers is not None and num_workers < 1:
        raise InputError(f"num_workers ({num_workers}) must be at least 1.")
    if current_engine() is not None:
        yield from _run_on_engine(_Job(task, timeout_seconds, memory_gib), paths)
        return
    num_workers = min(num_workers or num_cores(), len(paths))
    waiting = deque(enumerate(paths))
    again: list[tuple[int, str]] = []
    free: list[_Worker] = []
    busy: list[_Worker] = []
    try:
        while waiting or again or busy:
            while (waiting or again) and len(busy) < num_workers:
                worker = free.pop() if free and not again else _Worker(task, memory_gib)
                number, path = again.pop() if again else waiting.popleft()
                limit = timeout_seconds(path) if callable(timeout_seconds) else timeout_seconds
                worker.give(number, path, limit)
                busy.append(worker)
            for worker in _ready(busy):
                busy.remove(worker)
                outcome = worker.take()
                if outcome.answer is None or worker.num_files >= _FILES_PER_WORKER:
                    worker.kill()
                else:
                    free.append(worker)
                if outcome.failure == "crashed" and worker.num_files > 1:
                    again.append((worker.number, worker.path))
                else:
                    yield outcome
    finally:
        for worker in [*free, *busy]:
            worker.kill()


@dataclass(frozen=True)
class _Job:
    """Checks a few files one after another, in a process that can be killed."""

    task: Task
    timeout_seconds: float | Callable[[str], float]
    memory_gib: float

    def __call__(self, files: tuple[int, Sequence[str]]) -> list[Outcome]:
        first, paths = files
        limits: dict[str, Any] = {"timeout_seconds": self.timeout_seconds, "memory_gib": self.memory_gib}
        outcomes = run_killable(self.task, paths, num_workers=1, **limits)
        return [replace(outcome, number=first + outcome.number) for outcome in outcomes]


def _run_on_engine(job: _Job, paths: Sequence[str]) -> Generator[Outcome]:
    parts = ((first, paths[first : first + _FILES_PER_JOB]) for first in range(0, len(paths), _FILES_PER_JOB))
    for outcomes in parallel_map(job, parts, num_workers=0, in_order=False, files=lambda part: part[1]):
        yield from outcomes


def _ready(busy: Sequence[_Worker]) -> list[_Worker]:
    """Return the workers that answered, died or ran out of time; wait for the first."""
    until = min(worker.deadline for worker in busy) - time.monotonic()
    answered = wait([worker.connection for worker in busy], max(0.0, until))
    now = time.monotonic()
    return [worker for worker in busy if worker.connection in answered or worker.deadline <= now]


class _Worker:
    """One process and its current file."""

    def __init__(self, task: Task, memory_gib: float) -> None:
        self._child = Child(_serve, task, memory_gib)  # by fork: takes milliseconds, with torch and decoders loaded
        self.connection = self._child.connection
        self.number, self.path, self.deadline, self.num_files = -1, "", 0.0, 0

    def give(self, number: int, path: str, timeout_seconds: float) -> None:
        """Send the worker a file."""
        self.number, self.path, self.num_files = number, path, self.num_files + 1
        self.timeout_seconds = timeout_seconds
        self.deadline = time.monotonic() + timeout_seconds
        try:
            self.connection.send_bytes(os.fsencode(path))
        except OSError:  # it died in between, as take() will report
            return

    def take(self) -> Outcome:
        """Return the outcome of the file, once the worker answered, died or ran out of time."""
        try:
            if not self.connection.poll():
                return Outcome(self.number, None, "timeout", f"not done after {self.timeout_seconds:g} s")
            message = json.loads(self.connection.recv_bytes(_MAX_ANSWER_BYTES))
        except (EOFError, OSError, ValueError):
            return Outcome(self.number, None, "crashed", f"its process {self._child.death()}")
        if "bug" in message:
            return Outcome(self.number, None, "bug", str(message["bug"]))
        return Outcome(self.number, message["answer"])

    def kill(self) -> None:
        """Kill the process."""
        self._child.kill()


# ---------------------------------------------------------------- in the worker


def _serve(connection: Connection, task: Task, memory_gib: float) -> None:
    _confine(memory_gib)
    while True:
        path = os.fsdecode(connection.recv_bytes())
        try:
            message: dict[str, Any] = {"answer": task(path)}
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
            message = {"bug": f"{type(error).__name__} in {where}: {error}"[:2000]}
        connection.send_bytes(json.dumps(message).encode())


def _confine(memory_gib: float) -> None:
    """Limit a worker: memory, no core dumps, no output."""
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = used + int(memory_gib * 2**30)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    faulthandler.disable()  # otherwise a crash prints a page of text
    gc.freeze()  # inherited objects belong to the parent
    silence = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # decoders print
        os.dup2(silence, descriptor)
