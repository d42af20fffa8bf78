"""Copies of batches to the device, while it computes on earlier ones.

With CUDA, the thread that makes batches starts the copies of a batch in a stream of their own, out of page-locked
memory; the thread that trains lets its stream wait for them on the device. Neither thread waits. ::

    making     gather, start      gather, start
    copying             ====               ====
    training            ......finish, step        finish, step

Results come back the same way: their copy to page-locked memory is queued behind the kernels that make them, and the
host waits for it once it has started the next batch (:func:`one_behind`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from avssl.core.batch import Batch
from avssl.data.packing import Empty, as_float, empty, empty_pinned

Ready = Callable[[], Batch]
"""Returns the batch, for use in the current stream of the thread that calls it."""
Results = Callable[[], dict[str, np.ndarray]]
"""Returns results on the host, once they are there."""
_Item = TypeVar("_Item")


class Transfer:
    """Keep batches on the CPU: there is nothing to copy."""

    empty: Empty = staticmethod(empty)
    """Allocates what batches are gathered in."""
    keeps_int16 = False
    """True if :meth:`start` turns int16 audio into float32."""

    def start(self, make: Callable[[], Batch]) -> Ready:
        """Make a batch and start to copy it."""
        batch = make()
        return lambda: batch

    def fetch(self, results: Mapping[str, Tensor]) -> Results:
        """Start to copy results to the host."""
        return lambda: {name: x.numpy() for name, x in results.items()}


class SideStream(Transfer):
    """Copies batches to a GPU in a stream of their own.

    Args:
        device: The GPU.
        runtime: ``torch.cuda``, or what stands for it.
    """

    empty = staticmethod(empty_pinned)
    keeps_int16 = True

    def __init__(self, device: torch.device, runtime: Any = torch.cuda) -> None:
        self._device, self._runtime = device, runtime
        self._stream = runtime.Stream(device)

    def start(self, make: Callable[[], Batch]) -> Ready:
        """Make a batch in page-locked memory and start to copy it; its host memory is kept until that is done."""
        with self._runtime.stream(self._stream):  # makes the device the current one: page-locked memory belongs to one
            batch = pinned(make())
            moved = batch.to(self._device)
            moved = replace(moved, audio=as_float(moved.audio))
            copied = self._stream.record_event()

        def finish() -> Batch:
            current = self._runtime.current_stream(self._device)
            current.wait_event(copied)
            for tensor in tensors(moved):
                tensor.record_stream(current)  # its memory is not used again before this stream is done with it
            return moved

        return finish

    def fetch(self, results: Mapping[str, Tensor]) -> Results:
        """Queue the copies of results to page-locked memory behind what makes them; nothing waits before the call."""
        on_host = {name: self.empty(tuple(x.shape), x.dtype) for name, x in results.items()}
        for name, x in results.items():
            on_host[name].copy_(x, non_blocking=True)
        copied = self._runtime.current_stream(self._device).record_event()

        def finish() -> dict[str, np.ndarray]:
            copied.synchronize()
            return {name: x.numpy() for name, x in on_host.items()}

        return finish


def one_behind(items: Iterable[_Item]) -> Iterator[_Item]:
    """Yield each item once the next one is made: whoever waits for it has given the device more work before."""
    rest = iter(items)
    for last in rest:
        for item in rest:
            yield last
            last = item
        yield last


def transfer_to(device: torch.device) -> Transfer:
    """Return how batches get to a device."""
    return SideStream(device) if device.type == "cuda" else Transfer()


def tensors(batch: Batch) -> list[Tensor]:
    """Return all tensors of a raw batch."""
    values = [*(getattr(batch, item.name) for item in fields(batch)), *vars(batch.index).values()]
    return [value for value in values if isinstance(value, Tensor)]


def pinned(batch: Batch) -> Batch:
    """Return a raw batch of which the index and the sizes are in page-locked memory too."""
    index = replace(batch.index, **{name: value.pin_memory() for name, value in vars(batch.index).items()})
    assert batch.valid_hw is not None, "a raw batch has it"
    return replace(batch, index=index, valid_hw=batch.valid_hw.pin_memory())
