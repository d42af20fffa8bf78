"""CPU cores of this process, and the number of processes that decode."""

from __future__ import annotations

import os


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoding_workers(requested: int | None = None) -> int:
    """Return ``requested``, or else one process per core, at most 8, divided among the ranks of a machine."""
    if requested is not None:
        return requested
    return max(1, min(8, num_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
