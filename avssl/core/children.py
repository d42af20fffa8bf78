"""Child processes: they end with their parent, leave its signals to it, and note what they are doing.

Signals to the whole process group (Ctrl-C, ``timeout``, the stop of a container, ``scancel``) are ignored by the
children: the parent decides, and ends them. However the parent ends, by SIGKILL too, its children end with it.
"""

from __future__ import annotations

import atexit
import ctypes
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, Literal

from avssl.core.memory_file import memory_file
from avssl.core.stopping import STOP_SIGNALS

StartMethod = Literal["fork", "forkserver", "spawn"]

_PR_SET_PDEATHSIG = 1
_NOTE_BYTES = 4096
_OOM_SCORE = "500"
"""Linux kills children first when memory runs out, so that their parent can say what happened."""
_JOIN_SECONDS = 1.0


class Child:
    """A child process, at the other end of a pipe.

    Args:
        serve: Called in the child with its end of the pipe and ``arguments``; the child ends when it returns.
        arguments: Further arguments.
        start_method: "fork" starts at once and shares this process's memory as it is; "forkserver" and "spawn" are for
            programs whose own threads forbid it, and need a guarded main module.
    """

    def __init__(self, serve: Callable[..., None], *arguments: Any, start_method: StartMethod = "fork") -> None:
        self.connection, theirs = multiprocessing.Pipe()
        self._page = _Page()
        context = multiprocessing.get_context(start_method)
        self.process: Any = context.Process(  # type: ignore[attr-defined]
            target=_begin, args=(theirs, self._page, os.getpid(), serve, arguments), daemon=True
        )
        _children.add(self)
        # Blocked until the child ignores them: it must not obey one that comes in between.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            with warnings.catch_warnings():  # about threads at a fork: a child takes no lock that others may hold
                warnings.filterwarnings("ignore", message=r".*use of fork\(\)", category=DeprecationWarning)
                self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()

    def doing(self) -> str:
        """Return the child's last :func:`note`, also after its death."""
        return self._page.read()

    def death(self) -> str:
        """Describe how the child ended, once its end of the pipe is closed."""
        self.process.join(_JOIN_SECONDS)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with status {code}" if code else "closed its pipe"

    def kill(self) -> None:
        """Kill the child. One that waits for a dead disk cannot be killed and is left behind."""
        self.connection.close()
        if self.process.pid is not None:
            self.process.kill()
            self.process.join(_JOIN_SECONDS)
        _children.discard(self)


def note(text: str) -> None:
    """Note what this child is doing, for its parent to report if it dies; in other processes nothing happens."""
    if _page is not None:
        _page.write(text)


def doing() -> str:
    """Return the last note of this child."""
    return "" if _page is None else _page.read()


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends.

    Linux does so when the thread that started this process ends.

    Args:
        parent: Process id of the parent.
    """
    if sys.platform == "linux" and os.getppid() == parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            return
    threading.Thread(target=_end_after_parent, name="end-after-parent", daemon=True).start()


# ---------------------------------------------------------------- in the parent

_children: set[Child] = set()
"""Those that :meth:`Child.kill` has not ended yet."""


def _kill_all() -> None:
    for child in list(_children):
        with suppress(OSError, ValueError):
            child.kill()


# Before multiprocessing's own end, which would send SIGTERM, ignored by the children, and wait for them.
atexit.register(_kill_all)

# ---------------------------------------------------------------- in the child

_page: _Page | None = None


def _begin(
    connection: Connection, page: _Page, parent: int, serve: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    global _page
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    die_with_parent(parent)
    for other in list(_children):  # ends of other pipes that a fork inherits would hide the death of the parent
        other.connection.close()
    _children.clear()
    _page = page
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_OOM_SCORE)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has gone
        serve(connection, *arguments)


def _end_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


class _Page:
    """Text in memory that parent and child share, so that it outlives the child."""

    def __init__(self, file: int | None = None) -> None:
        self._file = memory_file() if file is None else file
        os.ftruncate(self._file, _NOTE_BYTES)
        self._memory = mmap.mmap(self._file, _NOTE_BYTES)

    def __reduce__(self) -> Any:
        return _received_page, (reduction.DupFd(self._file),)

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self._file)

    def write(self, text: str) -> None:
        words = text.encode("utf-8", "surrogateescape")[: _NOTE_BYTES - 2]  # also where the locale is ASCII
        self._memory[: len(words) + 2] = len(words).to_bytes(2, "little") + words

    def read(self) -> str:
        length = int.from_bytes(self._memory[:2], "little")
        return self._memory[2 : 2 + length].decode("utf-8", "backslashreplace")


def _received_page(file: Any) -> _Page:
    return _Page(file.detach())
