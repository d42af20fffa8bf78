"""Where and how a run computes: device, threads, seed, precision, and a report of all of it."""

from __future__ import annotations

import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from avssl.core.errors import InputError, RunError

_Name = Literal["fp32", "bf16"]
_Layout = Literal["contiguous", "channels_last"]
_PACKAGES = ("avssl", "torch", "torchvision", "torchaudio", "torchcodec", "av", "decord", "numpy", "pyarrow")


def choose_device(name: str = "auto") -> torch.device:
    """The device a run computes on.

    Args:
        name: "auto" (the GPU when there is one), "cpu", "cuda" or "cuda:N".

    Raises:
        ValueError: If the name is none of these, or there is no such GPU.
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
    """Sets torch's threads for one operation and returns the number in force.

    Sums are split by thread, so a run is bit-exact only at an equal number of threads.

    Args:
        count: >= 1; None keeps torch's own choice (the cores, or OMP_NUM_THREADS).
    """
    if count is not None:
        if count < 1:
            raise InputError(f"threads ({count}) must be at least 1.")
        torch.set_num_threads(count)
    return torch.get_num_threads()


def seed_everything(seed: int) -> None:
    """Seeds torch on every device, and Python's random: initial weights and dropout come from them.

    Draws that belong to clips do not; they are functions of the seed itself (see ``draws``).
    """
    random.seed(seed)
    torch.manual_seed(seed)


def environment_report(device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a result depends on beside the config, as plain JSON values.

    Returns:
        Python, platform, package versions (None when not installed), threads, device and its name,
        the git commit of the code with ``git_dirty`` (None outside a checkout), and the command line.
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
    """Output of git in the folder of this code, or None when it is no checkout of avssl."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # an installed wheel may lie inside somebody else's checkout
        return None
    try:
        result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


@dataclass(frozen=True)
class Precision:
    """Number format and memory layout of the model.

    Only the model computes in bf16, and the pictures it trains on are made in it; spectrograms and objectives stay
    in float32, as decibels and similarities need it. On a 2-core CPU with AMX, bf16 with channels_last trained small
    (2+1)D networks three times faster than fp32 with contiguous.

    Raises:
        ValueError: If a name is unknown.
    """

    name: _Name = "fp32"
    """Format of the model's matrix products and convolutions; weights are float32 in both."""
    memory_format: _Layout = "contiguous"
    """Layout of kernels and inputs; of 5-D ones channels_last_3d."""

    def __post_init__(self) -> None:
        if self.name not in ("fp32", "bf16"):
            raise InputError(f'precision.name ({self.name!r}) must be "fp32" or "bf16".')
        if self.memory_format not in ("contiguous", "channels_last"):
            raise InputError(
                f'precision.memory_format ({self.memory_format!r}) must be "contiguous" or "channels_last".'
            )

    def __str__(self) -> str:
        return f"{self.name} {self.memory_format}"

    def autocast(self, device: torch.device | str) -> AbstractContextManager[Any]:
        """A context in which torch computes in this format."""
        return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.name == "bf16")

    def arrange(self, x: Tensor) -> Tensor:
        """The same values in this layout; tensors that are not 4-D or 5-D are left alone."""
        if x.ndim not in (4, 5) or not x.is_floating_point():
            return x
        if self.memory_format == "contiguous":
            return x.contiguous()
        return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)

    def apply(self, model: nn.Module, device: torch.device | str) -> PrecisionHandle:
        """Makes every call of ``model`` compute in this precision.

        Kernels are laid out anew, in place. Each call arranges its inputs, runs under autocast and
        gives float32, also inside DDP and when activation checkpointing calls it twice.

        Returns:
            A handle whose ``remove()`` undoes the hooks (the layout of the weights stays).
        """
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.data = self.arrange(parameter.data)
        return PrecisionHandle(model, self, torch.device(device))

    @contextmanager
    def applied_to(self, task: Any, device: torch.device | str) -> Iterator[None]:
        """While it lasts, a :class:`~avssl.engine.Task` trains in this precision.

        That is what :meth:`apply` does to its ``model`` and, if it has one, its ``target``; and pictures to train on
        come from its ``transform``, if that makes them, as the model computes with them. Those to evaluate on stay
        float32.
        """
        augment = getattr(getattr(task, "transform", None), "video_augment", None)
        with ExitStack() as undo:
            for model in (task.model, getattr(task, "target", None)):
                if model is not None:
                    undo.callback(self.apply(model, device).remove)
            if augment is not None:
                undo.callback(augment.set_output, *augment.output_format)
                augment.set_output(*self.picture_format)
            yield

    @property
    def picture_format(self) -> tuple[torch.dtype, torch.memory_format]:
        """Of (B, 3, T, H, W) pictures that the model takes as they are."""
        layout = torch.contiguous_format if self.memory_format == "contiguous" else torch.channels_last_3d
        return torch.bfloat16 if self.name == "bf16" else torch.float32, layout


class PrecisionHandle:
    """The two hooks of :meth:`Precision.apply`."""

    def __init__(self, model: nn.Module, precision: Precision, device: torch.device) -> None:
        self._precision, self._device = precision, device
        self._contexts: list[AbstractContextManager[Any]] = []
        self._handles: list[RemovableHandle] = [
            model.register_forward_pre_hook(self._enter, with_kwargs=True),
            model.register_forward_hook(self._leave, always_call=True),
        ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(
        self, model: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        context = self._precision.autocast(self._device)
        context.__enter__()
        self._contexts.append(context)
        arranged = (self._precision.arrange(x) if isinstance(x, Tensor) else x for x in inputs)
        return tuple(arranged), {
            name: self._precision.arrange(x) if isinstance(x, Tensor) else x for name, x in options.items()
        }

    def _leave(self, model: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        self._contexts.pop().__exit__(None, None, None)
        return output if self._precision.name == "fp32" else _to_float32(output)


def _to_float32(value: Any) -> Any:
    """The same structure with every bf16 tensor in float32."""
    match value:
        case Tensor():
            return value.float() if value.dtype == torch.bfloat16 else value
        case dict():
            return {key: _to_float32(item) for key, item in value.items()}
        case tuple() | list() if not hasattr(value, "_fields"):
            return type(value)(_to_float32(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _to_float32(getattr(value, f.name)) for f in fields(value) if f.init})
    return value


def all_precisions() -> list[Precision]:
    """The candidates of a probe: {fp32, bf16} x {contiguous, channels_last}."""
    names: tuple[_Name, ...] = ("fp32", "bf16")
    layouts: tuple[_Layout, ...] = ("contiguous", "channels_last")
    return [Precision(name, layout) for name, layout in product(names, layouts)]


def probe_precision(
    candidates: Sequence[Precision],
    run_step: Callable[[Precision], None],
    *,
    num_steps: int = 3,
    num_warmup_steps: int = 1,
) -> tuple[Precision, dict[str, float]]:
    """The candidate whose training step is fastest on this machine.

    Args:
        candidates: At least one; the first wins a tie.
        run_step: Runs one whole training step in a precision, on a copy of the model: what it
            changes is not undone here.
        num_steps: Timed steps of each candidate; the median counts.
        num_warmup_steps: Steps before them, in which kernels are chosen and memory is found.

    Returns:
        The fastest, and the seconds a step of each by ``str(precision)``; infinity where the
        machine has no kernel for it.

    Raises:
        RuntimeError: If no candidate runs.
    """
    seconds: dict[Precision, float] = {}
    errors: list[str] = []
    for candidate in candidates:
        try:
            for _ in range(num_warmup_steps):
                run_step(candidate)
            seconds[candidate] = statistics.median(_time(run_step, candidate) for _ in range(num_steps))
        except (RuntimeError, NotImplementedError) as error:
            seconds[candidate] = float("inf")
            errors.append(f"{candidate}: {error}")
    table = {str(candidate): value for candidate, value in seconds.items()}
    if len(errors) == len(candidates):
        raise RunError("no precision runs a training step on this machine:\n" + "\n".join(errors))
    return min(candidates, key=lambda candidate: seconds[candidate]), table


def _time(run_step: Callable[[Precision], None], precision: Precision) -> float:
    _wait()
    start = time.perf_counter()
    run_step(precision)
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    """GPU kernels are queued: without waiting, only their launch would be timed."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
