"""Stop after the current step on SIGTERM or SIGUSR1; all ranks agree on the step."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from avssl.core import distributed

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Context that records the two signals instead of obeying them.

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
            self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def is_agreed(self) -> bool:
        """Return True if the ranks agreed to stop. Every rank must call it once per step and gets the same answer."""
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
        device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
        count = torch.tensor(int(self.received is not None), device=device)
        return count, dist.all_reduce(count, async_op=True)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._owner:
            self.received = signal.Signals(number).name
        elif number == signal.SIGTERM:  # a forked decoding process has inherited this handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
