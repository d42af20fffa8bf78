"""Run an iterator in a thread of its own, ahead of whoever takes its items."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

_Item = TypeVar("_Item")
_END = object()


class Ahead(Generic[_Item]):
    """Items of an iterator, in order, made in a thread while others are used.

    Whatever the iterator raises is raised here, after the items before it.

    Args:
        items: Used in the thread alone.
        count: Finished items that wait, >= 1; the thread makes another one meanwhile.
        interrupt: Called by :meth:`close`; ends whatever ``items`` may be waiting for, if they have not ended.

    Example:
        >>> ahead = Ahead(iter(range(4)), count=1)
        >>> for number in ahead:
        ...     print(number)
        ...     if number == 1:
        ...         break
        0
        1
        >>> ahead.close()
    """

    def __init__(self, items: Iterator[_Item], count: int = 1, interrupt: Callable[[], None] | None = None) -> None:
        self._items, self._interrupt = items, interrupt
        self._made: queue.Queue[Any] = queue.Queue(count)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="avssl-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[_Item]:
        while True:
            item, error = self._made.get()
            if error is not None:
                raise error
            if item is _END:
                self._thread.join()
                return
            yield item

    def close(self) -> None:
        """End the thread; items that nobody took are dropped."""
        self._closed.set()
        if self._interrupt is not None and self._thread.is_alive():
            self._interrupt()
        while self._thread.is_alive():
            with suppress(queue.Empty):
                self._made.get(timeout=0.01)
        self._thread.join()

    def _run(self) -> None:
        try:
            for item in self._items:
                self._made.put((item, None))
                if self._closed.is_set():
                    return
            self._made.put((_END, None))
        except BaseException as error:
            self._made.put((None, error))
