"""Jobs as tasks of a Ray cluster. A task whose process or machine dies is done again on another one.

Files are not sent: every machine reads and writes them under the same path, on storage that all of them mount.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from avssl.core.engines import Files
from avssl.core.errors import ConfigError, RunError
from avssl.core.parallel import portable
from avssl.core.version import __version__

RETRIES = 4
"""Times that a task is done again after the death of its process or machine."""
_SHOWN_FILES = 3


class ClusterError(RunError):
    """A machine of the cluster that cannot do its work; the message names it."""


class RayEngine:
    """A Ray cluster.

    Args:
        address: ``"auto"`` for the cluster of this machine, ``HOST:PORT`` of its head, or ``ray://HOST:10001``; None
            starts Ray on this machine alone.

    Raises:
        ConfigError: If Ray is not installed, or there is no cluster.
    """

    def __init__(self, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # sends nothing to anybody
        try:
            import ray
        except ImportError as error:
            raise ConfigError("--engine ray needs Ray: pip install 'avssl[ray]'. One machine needs no Ray.") from error
        self._ray = ray
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            try:
                ray.init(
                    address="local" if address is None else address,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **({"include_dashboard": False} if address is None else {}),
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise ConfigError(
                    f"--address {address}: no Ray cluster answers there ({_first_line(error)}). Start one: "
                    "ray start --head, and on each other machine: ray start --address HOST:6379"
                ) from error
        self._do = ray.remote(num_cpus=1, max_retries=RETRIES)(_do)
        self._sent: tuple[Callable[[Any], Any], Any] | None = None

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._is_ours:
            self._ray.shutdown()

    def map(
        self, function: Callable[[Any], Any], jobs: Iterable[Any], *, ahead: int, in_order: bool, files: Files | None
    ) -> Iterator[Any]:
        """Yield ``function(job)`` of each job; ``ahead`` jobs for each core of the cluster are under way.

        Raises:
            ClusterError: If a machine does not see a file, has another version, or a job cannot be done.
            Exception: Whatever the function raises.
        """
        sent = self._send(function)
        rest = enumerate(jobs)
        tasks: dict[Any, tuple[int, list[str]]] = {}  # number and files of each
        answers: dict[int, Any] = {}
        taken = 0
        try:
            while True:
                while len(tasks) + len(answers) < ahead * self._num_cores() and (item := next(rest, None)) is not None:
                    seen = [str(path) for path in files(item[1]) if os.path.exists(path)] if files else []
                    tasks[self._do.remote([sent], __version__, seen, item[1])] = item[0], seen
                if not tasks and not answers:
                    return
                while not answers or (in_order and taken not in answers):
                    done, _ = self._ray.wait(list(tasks), num_returns=1, fetch_local=True)
                    number, seen = tasks.pop(done[0])
                    answers[number] = self._answer(done[0], seen)
                yield answers.pop(taken if in_order else next(iter(answers)))
                taken += 1
        finally:
            for task in tasks:
                self._ray.cancel(task, force=True)

    def _send(self, function: Callable[[Any], Any]) -> Any:
        """Return the reference of a function, which is sent to the cluster once."""
        if self._sent is None or self._sent[0] != function:
            self._sent = function, self._ray.put(function)
        return self._sent[1]

    def _num_cores(self) -> int:
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))  # machines come and go

    def _answer(self, task: Any, files: Sequence[str]) -> Any:
        try:
            answer, error = self._ray.get(task)
        except self._ray.exceptions.RayError as failure:
            named = f" on {', '.join(files[:_SHOWN_FILES])}" if files else ""
            raise ClusterError(
                f"the cluster gave up work{named} after up to {RETRIES} more tries: {_first_line(failure)} "
                "If it is always the same file, leave that out; if memory ran out, give each core more of it."
            ) from failure
        if error is not None:
            raise error
        return answer


# ---------------------------------------------------------------- on the machines of the cluster

_functions: dict[Any, Callable[[Any], Any]] = {}
"""The last function of this process; to unpack one takes long if it holds many rows."""


def _do(sent: Sequence[Any], version: str, files: Sequence[str], job: Any) -> tuple[Any, Exception | None]:
    try:
        check_machine(version, files)
        if sent[0] not in _functions:
            import ray

            _functions.clear()
            _functions[sent[0]] = ray.get(sent[0])
        return _functions[sent[0]](job), None
    except Exception as raised:
        return None, portable(raised)


def check_machine(version: str, files: Sequence[Path | str]) -> None:
    """Raise ClusterError if this machine has another version of avssl, or does not see a file."""
    if version != __version__:
        raise ClusterError(f"{socket.gethostname()}: has avssl {__version__}, and this one is {version}: install one.")
    for path in files:
        if not os.path.exists(path):
            raise ClusterError(
                f"{socket.gethostname()}: does not see {path}. Files are not sent: mount the storage there under the "
                "same path."
            )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
