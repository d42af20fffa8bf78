"""Atomic writing of files: under a temporary name that is renamed at the end.

A kill, a power cut or a full disk leaves the previous file, never half of a new one. If several processes
write the same file, the last one to finish wins.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

_ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room or ask for a larger quota",
    errno.EFBIG: "the disk's format or this process (ulimit -f) allows no larger one",
}
_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{12}\.avssl-tmp")
_STALE_SECONDS = 24 * 3600.0
"""Age after which an unfinished file is taken as left by a killed process, and removed."""


@contextmanager
def whole_file(path: str | os.PathLike[str], *, durable: bool = False, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary name to write to, and rename it to ``path`` if the block ends without an error.

    Args:
        path: The file; its folder is created. Links are followed. If it is not a regular file (/dev/stdout, a
            pipe), the path itself is yielded.
        durable: Flush the file to the disk, so that it survives a power cut.
        replace: Replace an existing file.

    Raises:
        FileExistsError: If the file exists and ``replace`` is False.
        OSError: If the disk is full or the file too large; names the file and the free space.

    Example:
        >>> with whole_file("results.npz") as temporary, temporary.open("wb") as file:
        ...     np.savez(file, scores=scores)
    """
    named, path = path, Path(os.path.realpath(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path.parent)
    temporary = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex[:12]}.avssl-tmp")
    try:
        with names_full_disk(named, temporary):
            yield temporary
            if durable:
                _flush(temporary)
            if replace:
                temporary.replace(path)
            else:
                os.link(temporary, path)
            if durable:  # the new name is on the disk only once its folder is
                _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def names_full_disk(path: str | os.PathLike[str], temporary: Path | None = None) -> Iterator[None]:
    """Turn an error of a full disk into one that names ``path`` and the free space; remove ``temporary`` first."""
    handled = sys.exception()
    try:
        yield
    except Exception as error:
        number = _no_room(error, handled, temporary or Path(path))
        if number is None:
            raise
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        free = shutil.disk_usage(Path(path).absolute().parent).free
        room = f" ({free / 2**20:.0f} MiB are free)" if number == errno.ENOSPC else ""
        raise OSError(number, f"{os.strerror(number)}{room}: {_ADVICE[number]}", os.fspath(path)) from error


def is_unfinished(name: str) -> bool:
    """Return True if a name is that of an unfinished file, of this process or of another one."""
    return _UNFINISHED.fullmatch(name) is not None


def write_text(path: str | os.PathLike[str], text: str, *, replace: bool = True) -> None:
    """Write UTF-8 text atomically. Errors are as in :func:`whole_file`."""
    with whole_file(path, replace=replace) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any], *, replace: bool = True) -> None:
    """Write plain values as JSON atomically. Errors are as in :func:`whole_file`."""
    write_text(path, json.dumps(content, indent=1) + "\n", replace=replace)


@cache
def _remove_stale(folder: Path) -> None:
    """Remove old unfinished files, once per process and folder, because a folder may hold a million clips."""
    with suppress(OSError):  # a folder that may be written to but not listed
        for name in filter(is_unfinished, os.listdir(folder)):
            with suppress(OSError):  # another process removed it, or only another user may
                if time.time() - (folder / name).stat().st_mtime > _STALE_SECONDS:
                    (folder / name).unlink()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _no_room(error: BaseException | None, handled: BaseException | None, written: Path) -> int | None:
    """Return the errno of a full disk behind an error, as torch and safetensors wrap it in their own types."""
    while error is not None and error is not handled:
        if isinstance(error, OSError) and error.errno in _ADVICE:
            # PyAV writes a path as file:PATH.
            return error.errno if error.filename is None or str(error.filename).endswith(written.name) else None
        from_rust = re.search(r"\(os error (\d+)\)", str(error))
        if from_rust and int(from_rust[1]) in _ADVICE:
            return int(from_rust[1])
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None
