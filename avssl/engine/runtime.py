"""Device, threads and seed of a run, and a report of its environment."""

from __future__ import annotations

import os
import platform
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from avssl.core.errors import InputError, RunError

_NOT_DETERMINISTIC = re.compile(r"(\S+) does not have a deterministic implementation")
_PACKAGES = ("avssl", "torch", "torchvision", "torchaudio", "torchcodec", "av", "decord", "numpy", "pyarrow")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of a run.

    Args:
        name: "auto" (the GPU if there is one), "cpu", "cuda" or "cuda:N".

    Raises:
        ValueError: If the name is not one of these, or there is no such GPU.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
        >>> choose_device("tpu")
        Traceback (most recent call last):
            ...
        avssl.core.errors.InputError: device ('tpu') must be "auto", "cpu", "cuda" or "cuda:N".
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f'device ({name!r}) must be "auto", "cpu", "cuda" or "cuda:N".')
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f'device ({name!r}): torch {torch.__version__} sees no GPU. Use "cpu", or run avssl doctor.')
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device ({name!r}): this machine shows {torch.cuda.device_count()} GPUs, counted from 0.")
    return device


def set_threads(count: int | None = None) -> int:
    """Set the number of torch threads, and return the number in force.

    Sums are divided between threads, so results are bit-exact only at the same number of threads.

    Args:
        count: Number of threads, >= 1. None keeps torch's choice (the cores, or OMP_NUM_THREADS).

    Example:
        >>> before = set_threads()
        >>> set_threads(1)
        1
        >>> set_threads(before) == before
        True
    """
    if count is not None:
        if count < 1:
            raise InputError(f"threads ({count}) must be at least 1.")
        torch.set_num_threads(count)
    return torch.get_num_threads()


@contextmanager
def threads_within(count: int | None) -> Iterator[None]:
    """Within the context, have torch use a number of threads; None keeps the present one.

    Example:
        >>> with threads_within(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    try:
        set_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def seed_everything(seed: int) -> None:
    """Seed torch on every device and Python's random, which initial weights and dropout use.

    Random numbers of clips do not use them; they are functions of the seed (see ``avssl.core.draws``).

    Example:
        >>> seed_everything(0)
        >>> first = torch.rand(2)
        >>> seed_everything(0)
        >>> torch.equal(first, torch.rand(2))
        True
    """
    random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Within the context, compute the same numbers in every run on the same GPUs, or raise; a CPU does so anyway.

    It must begin before the first product on a GPU, as cuBLAS reads its workspace then.

    Raises:
        RunError: If an operation has no deterministic form; names it.

    Example:
        >>> with deterministic(True):
        ...     torch.are_deterministic_algorithms_enabled()
        True
        >>> torch.are_deterministic_algorithms_enabled()
        False
    """
    if not enabled:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    debugging: Any = torch.utils.deterministic
    fills = debugging.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    debugging.fill_uninitialized_memory = False  # looks for other faults, and costs time
    try:
        yield
    except RuntimeError as error:
        found = _NOT_DETERMINISTIC.search(str(error))
        if found is None:
            raise
        raise RunError(
            f"{found[1]} has no deterministic form on this device, and train.deterministic is set. Choose encoders and "
            "an objective without it (docs/reliability.md lists such operations), or leave out --train.deterministic."
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        debugging.fill_uninitialized_memory = fills


def environment_report(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return what a result depends on beside the settings, as plain JSON values.

    Python, platform, package versions (None if not installed), threads, device and its name, the git
    commit of the code with ``git_dirty`` (None outside a checkout), and the command line.

    Example:
        >>> report = environment_report("cpu")
        >>> report["device"], report["packages"]["torch"] == torch.__version__
        ('cpu', True)
    """
    device = torch.device(device)
    commit = _git("rev-parse", "HEAD")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES} | {"torch": torch.__version__},  # +cu130, +cpu
        "threads": torch.get_num_threads(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "cuda": torch.version.cuda,
        "git_commit": commit,
        "git_dirty": None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
        "command": list(sys.argv),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Return the output of git in the folder of this code, or None if that is not a checkout of avssl."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # an installed wheel may be inside another project's checkout
        return None
    try:
        result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
