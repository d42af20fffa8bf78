"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C; ``timeout``, the stop of a container, ``scancel``; the end of a terminal; the warning of a scheduler."""


class Stopped(KeyboardInterrupt):
    """A signal asked this process to stop. Like Ctrl-C, it is no ``Exception``.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        self.name = signal.Signals(number).name
        super().__init__(f"stopped by {self.name}")
        self.exit_status = 128 + number
        """Exit status of the command line, as shells report the signal."""


@contextmanager
def stop_signals_raised() -> Iterator[None]:
    """Raise :class:`Stopped` at a signal other than Ctrl-C, so that unfinished files are removed.

    Those that come after the first are ignored: ``timeout`` sends two, and the second must not end the cleaning.
    Signals that are ignored, such as SIGHUP under ``nohup``, stay so. Outside the main thread nothing can be caught.
    """
    before: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    if threading.current_thread() is threading.main_thread():
        caught = [number for number in STOP_SIGNALS[1:] if signal.getsignal(number) != signal.SIG_IGN]
        before |= {number: signal.signal(number, stop) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
