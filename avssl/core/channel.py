"""Messages between a process and its children: plain values, arrays and tensors.

Arrays and tensors lie in memory files (``memfd_create``), whose descriptors pass through the pipe, and the receiver
maps them: large messages are copied once, and nothing depends on ``/dev/shm``, which has 64 MB in many containers.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import sys
import tempfile
from itertools import accumulate
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

_INLINE_BYTES = 16 << 10
"""Largest message that passes through the pipe itself. The pipe holds many of these, so that senders do not wait."""
_ALIGNMENT = 64


class Channel:
    """One end of a pipe between a process and its child, which trust each other.

    Args:
        connection: The end of the pipe, closed by its owner.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: Any) -> None:
        """Send a message; it must pickle.

        Raises:
            OSError: If the other process is gone.
        """
        buffers: list[pickle.PickleBuffer] = []
        body = io.BytesIO()
        _Pickler(body, 5, buffer_callback=buffers.append).dump(message)
        if not buffers and body.tell() <= _INLINE_BYTES:
            self._connection.send_bytes(pickle.dumps(body.getvalue()))
            return
        parts = [body.getbuffer(), *(buffer.raw() for buffer in buffers)]
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
        sizes = pickle.loads(self._connection.recv_bytes())
        if isinstance(sizes, bytes):
            return pickle.loads(sizes)
        file = reduction.recv_handle(self._connection)
        try:
            memory = memoryview(mmap.mmap(file, 0, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)))
        finally:
            os.close(file)
        parts = [memory[offset : offset + size] for size, offset in zip(sizes, _offsets(sizes), strict=True)]
        return pickle.loads(parts[0], buffers=parts[1:])


def memory_file() -> int:
    """Return the descriptor of a new file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("avssl")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Pickler(pickle.Pickler):
    """Pickles tensors as arrays, whose memory is not copied into the stream."""

    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")  # processes without tensors start in a tenth of the time
        if torch is not None and isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.detach().contiguous().numpy(),)
        return NotImplemented


def _offsets(sizes: list[int]) -> list[int]:
    padded = [-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes]
    return list(accumulate(padded, initial=0))[:-1]


def _write(file: int, part: memoryview, offset: int) -> None:
    """Write all of a part; one call of the system writes 2 GiB at most."""
    while len(part):
        count = os.pwrite(file, part, offset)
        part, offset = part[count:], offset + count
