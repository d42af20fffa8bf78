"""Atomic writing of files: under a temporary name that is renamed at the end.

A kill, a power cut or a full disk leaves the previous file, never half of a new one. If several processes
write the same file, the last one to finish wins.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from avssl.core.errors import InputError

_ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room or ask for a larger quota",
    errno.EFBIG: "the disk's format or this process (ulimit -f) allows no larger one",
    errno.EROFS: "name a place that may be written",
}
_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{12}\.avssl-tmp")
_STALE_SECONDS = 24 * 3600.0
"""Age after which an unfinished file is taken as left by a killed process, and removed."""
_READER_SECONDS = 1.0  # a reader that was started together with the writer may open the pipe later


@contextmanager
def whole_file(
    path: str | os.PathLike[str], *, durable: bool = False, replace: bool = True, num_bytes: int | None = None
) -> Iterator[Path]:
    """Yield a temporary name to write to, and rename it to ``path`` if the block ends without an error.

    Args:
        path: The file; its folder is created. Links are followed. If it is not a regular file (/dev/null, a
            pipe that is read), the path itself is yielded.
        durable: Flush the file to the disk, so that it survives a power cut.
        replace: Replace an existing file.
        num_bytes: Approximate size of the file, for the error of a full disk.

    Raises:
        FileExistsError: If the file exists and ``replace`` is False.
        InputError: If it is a pipe that nobody reads.
        OSError: If the disk is full or read-only, or the file too large; names the file, the room that it needs and the
            free space.

    Example:
        >>> with whole_file("results.npz") as temporary, temporary.open("wb") as file:
        ...     np.savez(file, scores=np.ones(3))
        ...     print(Path("results.npz").exists())
        False
        >>> Path("results.npz").exists()
        True
    """
    named, path = path, Path(os.path.realpath(path))
    if is_special(path):
        with held_open(path, named):
            yield path
        return
    with names_full_disk(named):
        path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path.parent)
    temporary = unfinished_name(path)
    try:
        with names_full_disk(named, temporary, num_bytes):
            yield temporary
            if durable:
                flush(temporary)
            if replace:
                temporary.replace(path)
            else:
                _rename_to_new(temporary, path)
            if durable:  # the new name is on the disk only once its folder is
                with suppress(OSError):  # some network file systems and FAT have no such call
                    flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Return True for a device, a pipe or a socket, which is written to and never replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def held_open(path: Path, named: str | os.PathLike[str]) -> Iterator[None]:
    """Within the context, whoever opens a pipe to write to it does not wait; other paths are left alone.

    Raises:
        InputError: If nobody reads the pipe. To open it would wait for ever.
    """
    if not path.is_fifo():
        yield
        return
    end = time.monotonic() + _READER_SECONDS
    while (descriptor := _open_end(path)) is None:
        if time.monotonic() > end:
            raise InputError(f"{os.fspath(named)}: is a FIFO (named pipe) that nobody reads. Name a file.")
        time.sleep(0.05)
    try:
        yield
    finally:
        os.close(descriptor)


def _open_end(pipe: Path) -> int | None:
    """Open a pipe to write; return None if nobody reads it."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


@contextmanager
def names_full_disk(
    path: str | os.PathLike[str], temporary: Path | None = None, num_bytes: int | None = None
) -> Iterator[None]:
    """Turn an error of a full disk into one that names ``path``, the room it needs and the free space.

    Args:
        path: What is written.
        temporary: Its unfinished file, which is removed.
        num_bytes: Approximate size of the whole file; by default the error says how much was written.
    """
    handled = sys.exception()
    try:
        yield
    except Exception as error:
        number = _no_room(error, handled, temporary or Path(path))
        if number is None:
            raise
        room = _room(Path(path), temporary, num_bytes)
        if number in (errno.EFBIG, errno.EROFS):  # more room would not help
            room = ""
        raise OSError(number, f"{os.strerror(number)}{room}: {_ADVICE[number]}", os.fspath(path)) from error


def _room(path: Path, temporary: Path | None, num_bytes: int | None) -> str:
    """Return " (... is needed, ... is free)" after removing the unfinished file."""
    needed = f"about {_size(num_bytes)} are needed, " if num_bytes is not None else ""
    if temporary is not None:
        with suppress(OSError):
            if num_bytes is None and temporary.stat().st_size:
                needed = f"more than {_size(temporary.stat().st_size)} are needed, "
            temporary.unlink()
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    return f" ({needed}{_size(shutil.disk_usage(folder).free)} are free)"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.0f} MiB" if num_bytes >= 2**20 else f"{num_bytes / 2**10:.0f} KiB"


def unfinished_name(path: Path) -> Path:
    """Return a new name for the unfinished file of ``path``, beside it."""
    return path.with_name(f".{_short_name(path)}.{uuid.uuid4().hex[:12]}.avssl-tmp")


def unfinished_files(folder: Path, pattern: str) -> list[Path]:
    """Return the unfinished files of the files that match a pattern, relative to a folder."""
    parent, _, name = pattern.rpartition("/")
    return list(folder.glob(f"{parent or '.'}/.{name}.{'[0-9a-f]' * 12}.avssl-tmp"))


def unfinished_files_of(path: Path) -> list[Path]:
    """Return the unfinished files of one file; its writers that live have such too."""
    return unfinished_files(path.parent, glob.escape(_short_name(path)))


def remove_unfinished(paths: Iterable[Path]) -> None:
    """Remove unfinished files, as far as this user may."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def is_unfinished(name: str) -> bool:
    """Return True if a name is that of an unfinished file, of this process or of another one."""
    return _UNFINISHED.fullmatch(name) is not None


def _short_name(path: Path) -> str:
    """Return the name of a file, or what stands for a long one: a name has 255 bytes at most."""
    if len(path.name) <= 50:
        return path.name
    return f"{path.name[:40]}-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:9]}"


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


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Rename a file; raise FileExistsError if the new name exists."""
    try:
        os.link(temporary, path)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # no hard links: FAT and exFAT, many network file systems, two layers of a container
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            temporary.replace(path)
        except OSError:
            path.unlink(missing_ok=True)
            raise


def flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
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
