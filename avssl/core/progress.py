"""Progress of long work: a bar on a terminal, and elsewhere a plain line every 30 seconds at most."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any, ClassVar

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0
"""Least time between two lines of all bars together, where there is no terminal."""


class Bar(tqdm):  # type: ignore[misc]
    """A bar of tqdm on a terminal; in logs and pipes a line now and then. Rank 0 alone shows it.

    Args:
        arguments: Those of :class:`tqdm.tqdm`.
        show: False shows nothing.
        options: Those of :class:`tqdm.tqdm`.
    """

    monitor_interval = 0  # no thread of tqdm's, as this process forks
    disable: bool
    _last_line: ClassVar[float | None] = None

    def __init__(self, *arguments: Any, show: bool = True, **options: Any) -> None:
        self._on_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        is_hidden = not show or os.environ.get("RANK", "0") != "0"
        if not is_hidden and Bar._last_line is None:
            Bar._last_line = time.monotonic()
        super().__init__(*arguments, disable=is_hidden, miniters=1, dynamic_ncols=True, **options)

    def move(self, done: int, total: int) -> None:
        """Move to ``done`` of ``total``, for callbacks that learn the total on the way."""
        self.total = total
        self.update(done - self.n)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar, or write a line if one is due."""
        if self._on_terminal:
            super().display(msg, pos)
            return
        now = time.monotonic()
        if self.n > self.initial and Bar._last_line is not None and now - Bar._last_line >= SECONDS_BETWEEN_LINES:
            Bar._last_line = now
            self.fp.write(self._line() + "\n")
            self.fp.flush()

    def close(self) -> None:
        """End the bar; without a terminal, silently."""
        if self._on_terminal or self.disable:
            super().close()
            return
        self.disable = True
        self._decr_instances(self)

    def _line(self) -> str:
        numbers = dict(self.format_dict)
        of, left = (" of {total_fmt}", ", {remaining} left") if numbers["total"] else ("", "")
        words = "{desc}: {unit} {n_fmt}" + of + ", {elapsed} gone" + left + ", {rate_fmt}{postfix}"
        return str(self.format_meter(**numbers | {"bar_format": words, "ncols": None})).strip()


Bar.set_lock(threading.RLock())  # tqdm's own would be a semaphore between processes
