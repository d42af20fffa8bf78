"""Locks of outputs: an output is written by one process at a time.

A lock is a small file beside the output that names its owner: host, process and start. The owner touches it every few
seconds. A lock whose owner is gone (killed, or a machine that went down) is taken over, and the log says so.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from avssl.core.errors import InputError
from avssl.core.user_files import open_regular, read_text
from avssl.core.whole_file import unfinished_files_of, unfinished_name, write_json

_LOGGER = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
"""Time between two touches of a lock by its owner."""
WATCH_SECONDS = 40.0
"""Time without a touch after which the owner on another machine is taken as gone."""
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)
"""Errors of places in which this user or anybody may make no files."""
_MAX_BYTES = 2**16
_VANISHING_SECONDS = 5.0
"""Longest time to try to make a lock that neither can be made nor is there."""
_EMPTY_SECONDS = 1.0  # a lock is empty while it is being made on disks without hard links


class OutputError(InputError):
    """An output that must not be written. The message names it, the reason and what to do."""


@contextmanager
def locked(lock: Path, output: Path) -> Iterator[None]:
    """Hold a lock within the context.

    Args:
        lock: File of the lock; its folder is made.
        output: What it protects, for messages.

    Raises:
        OutputError: If a living process holds it; names the host and the process. If nothing can be written there.
    """
    owner = _this_process(lock)
    try:
        _acquire(lock, output, owner)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
        raise OutputError(
            f"{output}: nothing can be made there ({error.strerror}: {error.filename}). Name another place, or change "
            "the rights of its folder."
        ) from error
    _remove_unfinished(lock, owner)
    ends = threading.Event()
    threading.Thread(target=_beat, args=(lock, ends), daemon=True, name=f"lock {lock.name}").start()
    try:
        yield
    finally:
        ends.set()
        if owner["pid"] == os.getpid() and _read(lock) == owner:
            lock.unlink(missing_ok=True)


def is_held(lock: Path) -> bool:
    """Return True if a living process holds a lock."""
    other = _read(lock)
    return other is not None and _is_alive(lock, other)


def refuse_if_held(lock: Path, output: Path) -> None:
    """Raise OutputError if a living process holds a lock."""
    other = _read(lock)
    if other is not None and _is_alive(lock, other):
        raise OutputError(_held(output, other))


def _acquire(lock: Path, output: Path, owner: dict[str, Any]) -> None:
    deadline = time.monotonic() + _VANISHING_SECONDS
    while True:
        _refuse_file_as_folder(lock, output)
        other = None
        try:
            write_json(lock, owner, replace=False)
            return
        except FileExistsError:
            other = _read(lock)
        except FileNotFoundError:  # its folder was removed by a process that just ended, or none can be made there
            if not lock.parent.parent.is_dir():
                raise
        if other is None:  # released meanwhile
            if time.monotonic() > deadline:
                raise OutputError(f"{output}: {lock} can be neither made nor read. Remove it, or name another place.")
            continue
        if _is_alive(lock, other):
            raise OutputError(_held(output, other)) from None
        if _put_aside(lock, other):
            _LOGGER.info("%s: taken over from %s, which ended without finishing", output, _name(other))


def _refuse_file_as_folder(lock: Path, output: Path) -> None:
    """Raise OutputError if a part of the path that must be a folder is something else."""
    for folder in lock.parents:
        if os.path.lexists(folder):
            if not folder.is_dir():
                raise OutputError(f"{output}: {folder} is no folder, so nothing can be written in it. Name another.")
            return


def _put_aside(lock: Path, expected: dict[str, Any]) -> bool:
    """Remove the lock of an owner that is gone; return False if another process was faster."""
    aside = unfinished_name(lock)
    try:
        lock.rename(aside)
    except FileNotFoundError:
        return False
    if _read(aside) != expected:  # the new lock of a process that took over in between
        with suppress(FileNotFoundError):  # or its owner removed it, see _remove_unfinished
            aside.rename(lock)
        return False
    aside.unlink(missing_ok=True)
    return True


def _remove_unfinished(lock: Path, owner: dict[str, Any]) -> None:
    """Remove what killed processes left of this lock. Who waits for it makes its own again, see :func:`_acquire`."""
    for path in unfinished_files_of(lock):
        with suppress(OSError):  # this lock itself may be aside for a moment, see _put_aside
            if owner["token"] not in read_text(path, _MAX_BYTES):
                path.unlink()


def _beat(lock: Path, ends: threading.Event) -> None:
    while not ends.wait(BEAT_SECONDS):
        with suppress(OSError):
            os.utime(lock)


def _read(lock: Path) -> dict[str, Any] | None:
    """Return the owner in a lock, {} if it names none, None if there is no lock."""
    deadline = time.monotonic() + _EMPTY_SECONDS
    while True:
        try:
            owner = json.loads(read_text(lock, _MAX_BYTES))
            return owner if isinstance(owner, dict) else {}
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            if time.monotonic() > deadline:
                return {}
            time.sleep(0.05)


def _is_alive(lock: Path, owner: dict[str, Any]) -> bool:
    """Return True if the owner lives: by its process on this machine, by its touches on another one."""
    if not owner:
        return False
    if owner.get("machine") == _machine():
        original = Path(str(owner.get("lock")))
        if original != lock.absolute() and not _is_same_file(original, lock) and _read(original) == owner:
            return False  # the owner writes the folder of which this one is a copy
        return owner.get("started") is not None and _started(owner.get("pid")) == owner["started"]
    deadline, before = time.monotonic() + WATCH_SECONDS, _touched(lock)
    while time.monotonic() < deadline:
        time.sleep(min(1.0, BEAT_SECONDS))
        now = _touched(lock)
        if now != before:
            return now is not None
    return False


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _touched(lock: Path) -> int | None:
    try:
        with open_regular(lock) as file:  # opening makes a network file system look again
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _this_process(lock: Path) -> dict[str, Any]:
    return {
        "lock": str(lock.absolute()),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "began": datetime.now().astimezone().isoformat(timespec="seconds"),
        "started": _started(os.getpid()),
        "machine": _machine(),
        "token": uuid.uuid4().hex,
    }


@cache
def _machine() -> str:
    """Return what distinguishes the machines and containers that have process numbers of their own."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: Any) -> str | None:
    """Return the start of a process in ticks since boot, as numbers are used again; None if it has ended."""
    try:
        fields = Path(f"/proc/{int(pid)}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError, TypeError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def _name(owner: dict[str, Any]) -> str:
    if not owner:
        return "a process"
    return f"process {owner.get('pid')} on {owner.get('host')} (begun {owner.get('began')})"


def _held(output: Path, owner: dict[str, Any]) -> str:
    return f"{output}: {_name(owner)} is writing it. Wait until it has ended or stop it, or name another output."
