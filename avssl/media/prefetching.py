"""Run a generator in a thread of its own, so that decoding runs beside drawing."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from contextlib import closing
from typing import Any, TypeVar

from avssl.core.errors import InputError

T = TypeVar("T")


def prefetch(items: Generator[T, None, None], count: int) -> Generator[T, None, None]:
    """Yield the items of a generator, computed up to ``count`` items ahead.

    The generator runs in one thread from its first item to its end, as the files that it opens require.
    Its exceptions are raised here, after the same items. Closing this generator closes it.

    Args:
        items: The generator; it must not be used elsewhere.
        count: Number of items that may wait, >= 1.

    Raises:
        InputError: If ``count`` is not positive.

    Example:
        >>> list(prefetch((number**2 for number in range(4)), count=2))
        [0, 1, 4, 9]
    """
    if count < 1:  # a queue of size 0 has no limit
        raise InputError(f"count must be at least 1 item, got {count}.")
    return _prefetched(items, count)


def _prefetched(items: Generator[T, None, None], count: int) -> Generator[T, None, None]:
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(count)
    stopped = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, waiting, stopped), name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        while thread.is_alive():  # it may be waiting for space in the queue
            while not waiting.empty():
                waiting.get_nowait()
            thread.join(0.01)


def _fill(items: Generator[Any, None, None], waiting: queue.Queue[Any], stopped: threading.Event) -> None:
    end: BaseException = StopIteration()
    try:
        with closing(items):
            for item in items:
                if stopped.is_set():
                    break
                waiting.put((item, None))
    except BaseException as error:  # raised in the consumer
        end = error
    waiting.put((None, end))
