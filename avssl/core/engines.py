"""Engines for work on many files: processes of this machine, or the machines of a Ray cluster.

A verb chooses the engine once, and :func:`avssl.core.parallel.parallel_map` uses it; nobody between them knows which.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, Protocol

from avssl.core.errors import ConfigError

EngineName = Literal["local", "ray"]

Files = Callable[[Any], Iterable[Path | str]]
"""Job → the files and folders that it needs, which other machines must see too."""


class Engine(Protocol):
    """Machines that do jobs."""

    def map(
        self, function: Callable[[Any], Any], jobs: Iterable[Any], *, ahead: int, in_order: bool, files: Files | None
    ) -> Iterator[Any]:
        """Yield ``function(job)`` of each job, as :func:`avssl.core.parallel.parallel_map` does."""

    def close(self) -> None:
        """Leave the machines."""


_current: ContextVar[Engine | None] = ContextVar("engine", default=None)


def current_engine() -> Engine | None:
    """Return the engine of this context; None for processes of this machine."""
    return _current.get()


@contextmanager
def working_on(name: EngineName, address: str | None, num_workers: int | None = None) -> Iterator[None]:
    """Within the context, work on many files runs on an engine.

    Args:
        name: "local", or "ray".
        address: Address of the Ray cluster; None starts Ray on this machine.
        num_workers: Processes on this machine, which only "local" has.

    Raises:
        ConfigError: If the options exclude each other, Ray is not installed, or there is no cluster at the address.

    Example:
        >>> from avssl.core.parallel import parallel_map
        >>> with working_on("local", None):
        ...     list(parallel_map(len, ["a", "bc"], num_workers=0))
        [1, 2]
    """
    if name == "local":
        if address is not None:
            raise ConfigError(f"--address {address} is of a Ray cluster: give --engine ray too, or leave it out.")
        yield
        return
    if num_workers is not None:
        raise ConfigError(
            f"--num-workers {num_workers} counts processes of this machine: leave it out with --engine ray."
        )
    if address is None and os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError(
            "--engine ray: each process of torchrun would start a Ray of its own. Name a cluster with --address."
        )
    from avssl.core.ray_engine import RayEngine

    engine = RayEngine(address)
    token = _current.set(engine)
    try:
        yield
    finally:
        _current.reset(token)
        engine.close()
