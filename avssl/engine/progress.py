"""Progress of a training: steps, loss, clips per second and the remaining time."""

from __future__ import annotations

import time
from collections.abc import Mapping

from avssl.core import distributed
from avssl.core.progress import Bar


class Progress:
    """Shows steps, loss, clips per second and the remaining time, on rank 0.

    Args:
        step: Steps done before this process started.
        total_steps: Steps of the whole run.
        show: False measures the rate and shows nothing.
    """

    def __init__(self, step: int, total_steps: int, *, show: bool = True) -> None:
        show = show and distributed.is_main()
        self._bar = Bar(desc="train", total=total_steps, initial=step, unit="step", smoothing=0.1, show=show)
        self._samples = 0
        self._mark = time.perf_counter()

    def __enter__(self) -> Progress:
        self._mark = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def advance(self, num_samples: int) -> None:
        """Count a step of ``num_samples`` clips over all ranks."""
        self._samples += num_samples
        self._bar.update()

    def samples_per_second(self) -> float:
        """Return the clips per second over all ranks since the last call."""
        now = time.perf_counter()
        rate = self._samples / max(now - self._mark, 1e-9)
        self._samples, self._mark = 0, now
        return rate

    def show(self, record: Mapping[str, float]) -> None:
        """Show the numbers of a log."""
        numbers = {"loss": f"{record['loss']:.4g}", "clips/s": f"{record['samples_per_second']:.4g}"}
        self._bar.set_postfix(numbers)
