"""Memory that a process shares with its children, in slots of constant size that are used again and again.

A child writes the arrays of an answer straight into its slot (:func:`allocate`), and the parent reads them there:
nothing is mapped, cleared or copied for an answer. A slot is free again when no array of the parent refers to it.

::

    parent                                    child
    take() -> 3         -- job, slot 3 -->    open_slot(slots, 3)
                                              allocate(n): memory in slot 3, or None if it is full
    lend(3): memory     <-- places in 3 --    close_slot()
    (the last array ends: 3 is free)
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections import deque
from contextlib import suppress
from multiprocessing import reduction
from typing import Any

from avssl.core.memory_file import memory_file

_ALIGNMENT = 64


class Slots:
    """Slots of one size. The system finds memory for the part of a slot that was ever used.

    Args:
        count: Number of slots.
        num_bytes: Size of each.
    """

    def __init__(self, count: int, num_bytes: int, *, file: int | None = None) -> None:
        self.count, self.num_bytes = count, aligned(num_bytes)
        self.num_spilled = 0
        """Answers with arrays that came another way: they did not fit, or no slot was free."""
        self._file = memory_file() if file is None else file
        os.ftruncate(self._file, self.count * self.num_bytes)
        self._memory = mmap.mmap(self._file, self.count * self.num_bytes)
        self._free = deque(range(count))
        self._lent: set[int] = set()

    def __reduce__(self) -> Any:
        return _received, (self.count, self.num_bytes, reduction.DupFd(self._file))

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            os.close(self._file)

    def take(self) -> int | None:
        """Return a slot for an answer, or None if all are in use."""
        return self._free.popleft() if self._free else None

    def lend(self, slot: int) -> memoryview:
        """Return the memory of a slot, which is free when nothing refers to this memory any more."""
        array = (ctypes.c_ubyte * self.num_bytes).from_buffer(self._memory, slot * self.num_bytes)
        weakref.finalize(array, self._free.append, slot).atexit = False
        self._lent.add(slot)
        return memoryview(array).cast("B")

    def settle(self, slot: int | None) -> None:
        """Note that an answer has come: its slot is free now, unless the answer lies there."""
        if slot in self._lent:
            self._lent.discard(slot)
        elif slot is not None:
            self._free.append(slot)

    def opened(self, slot: int) -> OpenSlot:
        """Return the memory of a slot to write to."""
        return OpenSlot(slot, memoryview(self._memory)[slot * self.num_bytes : (slot + 1) * self.num_bytes])


class OpenSlot:
    """A slot that a child fills from its beginning.

    Args:
        number: Of the slot.
        memory: Its memory.
    """

    def __init__(self, number: int, memory: memoryview) -> None:
        self.number = number
        self._memory, self._used = memory, 0
        self._begin = ctypes.addressof(ctypes.c_ubyte.from_buffer(memory))

    def allocate(self, num_bytes: int) -> memoryview | None:
        """Return unused memory, or None if there is not enough."""
        first, stop = self._used, self._used + num_bytes
        if stop > len(self._memory):
            return None
        self._used = aligned(stop)
        return self._memory[first:stop]

    def place(self, part: memoryview) -> int | None:
        """Return where a part of an answer lies in the slot, after copying it there if need be; None if it is full."""
        import numpy as np

        offset = np.frombuffer(part, np.uint8).ctypes.data - self._begin if len(part) else 0
        if offset >= 0 and offset + len(part) <= self._used:
            return offset
        first, room = self._used, self.allocate(len(part))
        if room is None:
            return None
        room[:] = part
        return first


def aligned(num_bytes: int) -> int:
    """Return ``num_bytes`` rounded up to where an array may begin."""
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT


_open: OpenSlot | None = None


def open_slot(slot: OpenSlot | None) -> None:
    """Let :func:`allocate` return memory of this slot from now on; in a child."""
    global _open
    _open = slot


def allocate(num_bytes: int) -> memoryview | None:
    """Return memory of the slot that this child has for its result; None without a slot, or if it is full."""
    return None if _open is None else _open.allocate(num_bytes)


def _received(count: int, num_bytes: int, file: Any) -> Slots:
    return Slots(count, num_bytes, file=file.detach())
