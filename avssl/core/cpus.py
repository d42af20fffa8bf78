"""CPU cores of this process, and the number of processes that decode."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def num_cores() -> int:
    """Return the number of cores that this process may use: its affinity, or the limit of its container if lower."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([affinity, *_limits()])))


def decoding_workers(requested: int | None = None) -> int:
    """Return ``requested``, or else the number of decoding processes for this rank.

    The cores are divided among the ranks of a machine, and one of eight is left to the threads that train and make
    batches: with fewer cores their share of one is small beside what another decoder brings. There is no bound, because
    a GPU can use more clips than eight cores decode: 8 x 112 x 112 on an H200 takes about 20 cores, from shards
    (``benchmarks/loader.py`` prints how many). Each worker needs about the memory of three batches.
    """
    if requested is not None:
        return requested
    share = num_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, share - share // 8)


def _limits() -> Iterator[float]:
    """Yield the cores that the control groups of this process allow, from its own to the outermost (cgroup v2, v1)."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, read = _CGROUPS, _of_version_2
        elif "cpu" in controllers.split(","):
            root, read = _CGROUPS / "cpu", _of_version_1
        else:
            continue
        folder = root / path.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(root):
                yield from read(each)


def _of_version_2(folder: Path) -> Iterator[float]:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if quota.isdecimal() and int(period):
        yield int(quota) / int(period)


def _of_version_1(folder: Path) -> Iterator[float]:
    quota, period = (_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if quota.isdecimal() and period.isdecimal() and int(period):  # a quota of -1 is none
        yield int(quota) / int(period)


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""
