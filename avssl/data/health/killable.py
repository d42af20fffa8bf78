"""Run a function over many files in worker processes that can be killed.

Decoders are millions of lines of C that parse untrusted files. One that hangs is killed at its deadline, one
that crashes ends only its process, and memory is limited; each fault ends the check of one file,
not the run. Answers come back as JSON, so a compromised process cannot send code.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import multiprocessing
import os
import resource
import signal
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

import torch

from avssl.core.cpus import num_cores
from avssl.core.errors import InputError

Task = Callable[[str], dict[str, Any]]
"""The function of a file; its answer must be plain values."""

_FILES_PER_WORKER = 500  # then a new process, as decoders leak memory on broken files
_MAX_ANSWER_BYTES = 2**20
_PR_SET_PDEATHSIG = 1


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
    timeout_seconds: float = 60.0,
    memory_gib: float = 4.0,
) -> Generator[Outcome]:
    """Run ``task`` on every path, several at a time.

    A file whose process dies is tried once more in a new one, as an earlier file may be the cause.
    Closing the iterator, or the death of this process, ends all workers.

    Args:
        task: Called in forked processes, which share this one's memory as it was.
        num_workers: Processes, >= 1; default: one per core.
        timeout_seconds: Time limit per file.
        memory_gib: Memory limit per process beyond what it starts with, in GiB.

    Yields:
        One outcome for each path, in the order of completion.
    """
    if num_workers is not None and num_workers < 1:
        raise InputError(f"num_workers ({num_workers}) must be at least 1.")
    num_workers = min(num_workers or num_cores(), len(paths))
    waiting = deque(enumerate(paths))
    again: list[tuple[int, str]] = []
    free: list[_Worker] = []
    busy: list[_Worker] = []
    try:
        while waiting or again or busy:
            while (waiting or again) and len(busy) < num_workers:
                worker = free.pop() if free and not again else _Worker(task, memory_gib, [*free, *busy])
                worker.give(*(again.pop() if again else waiting.popleft()), timeout_seconds)
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


def _ready(busy: Sequence[_Worker]) -> list[_Worker]:
    """Return the workers that answered, died or ran out of time; wait for the first."""
    until = min(worker.deadline for worker in busy) - time.monotonic()
    answered = wait([worker.connection for worker in busy], max(0.0, until))
    now = time.monotonic()
    return [worker for worker in busy if worker.connection in answered or worker.deadline <= now]


class _Worker:
    """One process and its current file."""

    def __init__(self, task: Task, memory_gib: float, others: Sequence[_Worker]) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        mine = [self.connection, *(other.connection for other in others)]
        context = multiprocessing.get_context("fork")  # takes milliseconds, with torch and decoders loaded
        self.process = context.Process(target=_serve, args=(theirs, mine, task, memory_gib, os.getpid()), daemon=True)
        with warnings.catch_warnings():  # about threads at a fork: a worker takes no lock that others may hold
            warnings.filterwarnings("ignore", message=r".*use of fork\(\)", category=DeprecationWarning)
            self.process.start()
        theirs.close()
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
            return Outcome(self.number, None, "crashed", self._death())
        if "bug" in message:
            return Outcome(self.number, None, "bug", str(message["bug"]))
        return Outcome(self.number, message["answer"])

    def _death(self) -> str:
        self.process.join(1.0)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with status {code}" if code else "its process sent no answer"

    def kill(self) -> None:
        """Kill the process."""
        self.connection.close()
        self.process.kill()
        self.process.join(1.0)  # a process that waits for a dead disk cannot be killed and is left behind


# ---------------------------------------------------------------- in the worker


def _serve(connection: Connection, others: list[Connection], task: Task, memory_gib: float, parent: int) -> None:
    for other in others:  # inherited ends of other pipes, which would hide the death of the parent
        other.close()
    _confine(memory_gib, parent)
    while True:
        try:
            path = os.fsdecode(connection.recv_bytes())
        except (EOFError, OSError):  # the parent has gone
            return
        try:
            message: dict[str, Any] = {"answer": task(path)}
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
            message = {"bug": f"{type(error).__name__} in {where}: {error}"[:2000]}
        connection.send_bytes(json.dumps(message).encode())


def die_with_parent() -> None:
    """Let Linux end this process when the thread that started it ends."""
    if os.path.exists("/proc/self/statm"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _confine(memory_gib: float, parent: int) -> None:
    """Limit a worker: memory, no core dumps, no output, one thread, death with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends the workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if os.path.exists("/proc/self/statm"):
        die_with_parent()
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = used + int(memory_gib * 2**30)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if os.getppid() != parent:  # the parent died before the call above
        os._exit(0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    faulthandler.disable()  # otherwise a crash prints a page of text
    torch.set_num_threads(1)
    gc.freeze()  # inherited objects belong to the parent
    silence = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # decoders print
        os.dup2(silence, descriptor)
