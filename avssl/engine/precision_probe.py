"""Choice of the fastest precision by a short measurement on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product

import torch

from avssl.core.errors import RunError
from avssl.core.memory import is_memory_shortage
from avssl.engine.precision import LAYOUTS, Precision, PrecisionName

Trial = Callable[[Precision], AbstractContextManager[Callable[[], None]]]
"""Function that returns a context for a precision, in which a function runs a training step."""


@dataclass(frozen=True)
class PrecisionTimes:
    """Times of a training step in each candidate.

    Example:
        >>> times = PrecisionTimes({Precision("fp32"): 0.020, Precision("bf16"): 0.008})
        >>> print(times.fastest)
        bf16 contiguous
        >>> print(times)
        bf16 contiguous 8 ms, fp32 contiguous 20 ms
    """

    seconds: dict[Precision, float]
    """Shortest of the steps of a candidate; infinity where the machine has no kernel for it."""

    @property
    def fastest(self) -> Precision:
        """The fastest candidate; the first wins a tie."""
        return min(self.seconds, key=lambda candidate: self.seconds[candidate])

    def __str__(self) -> str:
        """Return the candidates with their milliseconds, the fastest first."""
        fastest_first = sorted(self.seconds.items(), key=lambda item: item[1])
        return ", ".join(f"{candidate} {_milliseconds(seconds)}" for candidate, seconds in fastest_first)


def _milliseconds(seconds: float) -> str:
    if seconds == float("inf"):
        return "does not run"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms"


def all_precisions() -> list[Precision]:
    """Return all precisions: {fp32, bf16} x {contiguous, channels_last, channels_last_2d}.

    Example:
        >>> [str(precision) for precision in all_precisions()][:3]
        ['fp32 contiguous', 'fp32 channels_last', 'fp32 channels_last_2d']
        >>> len(all_precisions())
        6
    """
    names: tuple[PrecisionName, ...] = ("fp32", "bf16")
    return [Precision(name, layout) for name, layout in product(names, LAYOUTS)]


def probe_precision(candidates: Sequence[Precision], trial: Trial, *, num_rounds: int = 3) -> PrecisionTimes:
    """Time a training step in each candidate on this machine.

    The candidates take turns, and the shortest time of each counts: other programs slow some steps down and make none
    faster. The first step of a candidate, in which kernels are chosen and memory is allocated, is not timed.

    Args:
        candidates: At least one candidate.
        trial: Opens a candidate's context. It should use a copy of the model, because its changes are not undone.
            What it does when it opens is not timed.
        num_rounds: Timed steps of a candidate; the same on every rank, as steps of several ranks exchange embeddings.

    Returns:
        The times, in the order of ``candidates``.

    Raises:
        RuntimeError: If no candidate runs.

    Example:
        >>> from contextlib import contextmanager
        >>> @contextmanager
        ... def trial(precision):
        ...     model = torch.nn.Conv2d(3, 4, 3)
        ...     handle = precision.apply(model, "cpu")
        ...     yield lambda: model(torch.ones(1, 3, 8, 8)).sum().backward()
        >>> times = probe_precision([Precision(), Precision(memory_format="channels_last")], trial)
        >>> len(times.seconds), times.fastest in times.seconds
        (2, True)
    """
    seconds = dict.fromkeys(candidates, float("inf"))
    errors: dict[Precision, Exception] = {}
    for number in range(num_rounds):
        for candidate in candidates:
            if candidate in errors:
                continue
            try:
                with trial(candidate) as step:
                    if number == 0:
                        step()
                    seconds[candidate] = min(seconds[candidate], _time(step))
            except (RuntimeError, NotImplementedError) as error:
                seconds[candidate], errors[candidate] = float("inf"), error
    if len(errors) == len(seconds):
        for failure in errors.values():
            if is_memory_shortage(failure):
                raise failure
        reasons = "\n".join(f"{candidate}: {failure}" for candidate, failure in errors.items())
        raise RunError(f"no precision runs a training step on this machine:\n{reasons}")
    return PrecisionTimes(seconds)


def _time(step: Callable[[], None]) -> float:
    _wait()
    start = time.perf_counter()
    step()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    """Wait for queued GPU kernels; otherwise only their launch would be timed."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
