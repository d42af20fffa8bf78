"""Stop after the current step when a signal asks for it; all ranks agree on the step."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from avssl.core import distributed
from avssl.core.errors import Interruption
from avssl.core.stopping import STOP_SIGNALS, Stopped
from avssl.engine.checkpoint import checkpoints_in, step_of

SIGNALS = STOP_SIGNALS[1:]
"""All but Ctrl-C, which stops at once."""


class StopRequest:
    """Context that records the signals instead of obeying them.

    A signal to one rank stops all ranks after the same step. Their votes are reduced while the next
    step runs, so no rank waits for it. Outside the main thread signals cannot be caught.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        """Name of the signal, on the rank that received it."""
        self._previous: dict[int, Any] = {}
        self._owner = os.getpid()
        self._vote: tuple[torch.Tensor, Any] | None = None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            obeyed = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._receive) for number in obeyed}
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None and self._vote is not None:  # no operation may be left when the group ends
            self._vote[1].wait()
            self._vote = None
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def is_agreed(self) -> bool:
        """Return True if the ranks agreed to stop. Every rank must call it once per step and gets the same result."""
        if distributed.world_size() == 1:
            return self.received is not None
        agreed = False
        if self._vote is not None:
            count, work = self._vote
            work.wait()
            agreed = bool(count.item())
        self._vote = None if agreed else self._cast()
        return agreed

    def _cast(self) -> tuple[torch.Tensor, Any]:
        count = torch.tensor(int(self.received is not None))  # on the host: no rank waits for its GPU
        return count, dist.all_reduce(count, group=distributed.host_group(), async_op=True)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._owner:
            self.received = signal.Signals(number).name
        elif number == signal.SIGTERM:  # a process forked by other code has inherited this handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def resumable(run: Path) -> Iterator[None]:
    """Turn a stop before the first or after the last step of a training into an Interruption.

    Args:
        run: Run directory. If it holds no checkpoint yet, there is nothing to resume, and the stop stays what it is.
    """
    try:
        yield
    except Stopped as stop:
        saved = max(checkpoints_in(run), key=lambda path: path.stat().st_mtime_ns, default=None)
        if saved is None:
            raise
        raise Interruption(stop.name, step_of(saved), saved) from None
