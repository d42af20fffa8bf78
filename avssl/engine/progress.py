"""Progress of a training: a bar on a terminal, a line in the log elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from avssl.core import distributed

_LOGGER = logging.getLogger(__name__)


class Progress:
    """Shows steps, loss, clips per second and the remaining time, on rank 0.

    Args:
        step: Steps done before this process started.
        total_steps: Steps of the whole run.
        show: False measures the rate and shows nothing.
    """

    def __init__(self, step: int, total_steps: int, *, show: bool = True) -> None:
        self._step, self._first, self._total = step, step, total_steps
        self._show = show and distributed.is_main()
        self._bar: tqdm | None = None
        self._samples = 0
        self._start = self._mark = time.perf_counter()

    def __enter__(self) -> Progress:
        if self._show and sys.stderr.isatty():
            self._bar = tqdm(total=self._total, initial=self._step, unit="step", dynamic_ncols=True, smoothing=0.1)
        self._start = self._mark = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, num_samples: int) -> None:
        """Count a step of ``num_samples`` clips over all ranks."""
        self._step += 1
        self._samples += num_samples
        if self._bar is not None:
            self._bar.update(1)

    def samples_per_second(self) -> float:
        """Return the clips per second over all ranks since the last call."""
        now = time.perf_counter()
        rate = self._samples / max(now - self._mark, 1e-9)
        self._samples, self._mark = 0, now
        return rate

    def show(self, record: Mapping[str, float]) -> None:
        """Show the numbers of a log."""
        numbers = {"loss": f"{record['loss']:.4g}", "clips/s": f"{record['samples_per_second']:.4g}"}
        if self._bar is not None:
            self._bar.set_postfix(numbers)
        elif self._show:
            words = " · ".join(f"{name} {value}" for name, value in numbers.items())
            _LOGGER.info("step %d/%d · %s · %s left", self._step, self._total, words, self._time_left())

    def _time_left(self) -> str:
        seconds = (time.perf_counter() - self._start) / max(1, self._step - self._first) * (self._total - self._step)
        return str(tqdm.format_interval(seconds))


def show_progress(bar: tqdm, done: int, total: int) -> None:
    """Move a bar to ``done`` of ``total``, for callbacks that learn the total on the way."""
    bar.total = total
    bar.update(done - bar.n)
