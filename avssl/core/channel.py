"""Messages between a process and its children: plain values, arrays and tensors.

Arrays and tensors lie in memory that both share: in a slot (:mod:`avssl.core.slots`), if there is one for the message
and they fit, or in a memory file (``memfd_create``), whose descriptor passes through the pipe, and which the receiver
maps. Nothing depends on ``/dev/shm``, which has 64 MB in many containers.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import sys
from itertools import accumulate
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from avssl.core.memory_file import memory_file
from avssl.core.slots import OpenSlot, Slots, aligned

_INLINE_BYTES = 16 << 10
"""Largest message that passes through the pipe itself. The pipe holds many of these, so that senders do not wait."""


class _InSlot(NamedTuple):
    """A message whose arrays lie in a slot."""

    slot: int
    body: bytes
    places: list[tuple[int, int]]
    """(offset, size) of each array."""


class Channel:
    """One end of a pipe between a process and its child, which trust each other.

    Args:
        connection: The end of the pipe, closed by its owner.
        slots: Slots in which messages that are received may lie.
    """

    def __init__(self, connection: Connection, slots: Slots | None = None) -> None:
        self._connection, self._slots = connection, slots

    def send(self, message: Any, slot: OpenSlot | None = None) -> None:
        """Send a message; it must pickle.

        Args:
            message: Of any size.
            slot: Holds arrays of the message, or is free for them.

        Raises:
            OSError: If the other process is gone.
        """
        buffers: list[pickle.PickleBuffer] = []
        body = io.BytesIO()
        _Pickler(body, 5, buffer_callback=buffers.append).dump(message)
        arrays = [buffer.raw() for buffer in buffers]
        if not arrays and body.tell() <= _INLINE_BYTES:
            self._connection.send_bytes(pickle.dumps(body.getvalue()))
        elif slot is not None and arrays and (places := _placed(arrays, slot)):
            self._connection.send_bytes(pickle.dumps(_InSlot(slot.number, body.getvalue(), places)))
        else:
            self._send_file([body.getbuffer(), *arrays])

    def _send_file(self, parts: list[memoryview]) -> None:
        sizes = [len(part) for part in parts]
        file = memory_file()
        try:
            for part, offset in zip(parts, _offsets(sizes), strict=True):
                _write(file, part, offset)
            self._connection.send_bytes(pickle.dumps(sizes))
            reduction.send_handle(self._connection, file, None)
        finally:
            os.close(file)

    def receive(self) -> Any:
        """Return the next message. Its arrays and tensors are views of memory that is freed with them.

        Raises:
            EOFError: If the other process is gone.
            OSError: If it went in the middle of something.
        """
        header = pickle.loads(self._connection.recv_bytes())
        if isinstance(header, bytes):
            return pickle.loads(header)
        if isinstance(header, _InSlot):
            assert self._slots is not None, "a child uses the slot that it was given"
            memory = self._slots.lend(header.slot)
            return pickle.loads(header.body, buffers=[memory[at : at + size] for at, size in header.places])
        if self._slots is not None:
            self._slots.num_spilled += 1
        return self._receive_file(header)

    def _receive_file(self, sizes: list[int]) -> Any:
        file = reduction.recv_handle(self._connection)
        try:
            memory = memoryview(mmap.mmap(file, 0, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)))
        finally:
            os.close(file)
        parts = [memory[offset : offset + size] for size, offset in zip(sizes, _offsets(sizes), strict=True)]
        return pickle.loads(parts[0], buffers=parts[1:])


class _Pickler(pickle.Pickler):
    """Pickles tensors as arrays, whose memory is not copied into the stream."""

    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")  # processes without tensors start in a tenth of the time
        if torch is not None and isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.detach().contiguous().numpy(),)
        return NotImplemented


def _placed(arrays: list[memoryview], slot: OpenSlot) -> list[tuple[int, int]] | None:
    """Return (offset, size) of each array in a slot, or None if there is not enough room for all."""
    places = []
    for array in arrays:
        offset = slot.place(array)
        if offset is None:
            return None
        places.append((offset, len(array)))
    return places


def _offsets(sizes: list[int]) -> list[int]:
    return list(accumulate(map(aligned, sizes), initial=0))[:-1]


def _write(file: int, part: memoryview, offset: int) -> None:
    """Write all of a part; one call of the system writes 2 GiB at most."""
    while len(part):
        count = os.pwrite(file, part, offset)
        part, offset = part[count:], offset + count
