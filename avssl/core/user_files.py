"""Open files that a user, a manifest or a download names: regular files only, of bounded size.

Such a name can lead to anything. Opening a FIFO waits for a writer for ever, and a link to a device has no end. Every
reader of such a file opens it here, or passes its path through :func:`regular_file` if a library opens it.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from avssl.core.errors import InputError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a disk device",
}


class FileError(InputError, OSError):
    """A path that names no file that can be read; the message names it, and what is there instead."""


class MissingFileError(FileError, FileNotFoundError):
    """A path at which there is nothing."""


def open_regular(path: str | os.PathLike[str], max_bytes: int | None = None) -> BufferedReader:
    """Open a file for reading, without waiting for anything; links are followed.

    Args:
        path: The file.
        max_bytes: Largest file to open; None for any.

    Raises:
        FileError: If the path names something else than a regular file, or a larger one.
        MissingFileError: If there is nothing.
        OSError: If it may not be read.
    """
    regular_file(path, max_bytes)  # first: even opening a device can have an effect
    # Another process may have put a FIFO there meanwhile. For a regular file, O_NONBLOCK has no meaning.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _check(path, os.fstat(descriptor), max_bytes)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def regular_file(path: str | os.PathLike[str], max_bytes: int | None = None) -> Path:
    """Return the path of a file that a library will open by its name.

    Arguments and errors are as in :func:`open_regular`.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise MissingFileError(f"{os.fspath(path)}: no such file.") from error
    except ValueError as error:  # a zero byte in the name
        raise FileError(f"{os.fspath(path)!r}: cannot be the name of a file ({error}).") from error
    _check(path, status, max_bytes)
    return Path(path)


def read_bytes(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Return the content of a file. Arguments and errors are as in :func:`open_regular`."""
    with open_regular(path, max_bytes) as file:
        data = file.read(max_bytes + 1)  # files of /proc tell no size
    if len(data) > max_bytes:
        raise FileError(f"{os.fspath(path)}: holds more than {max_bytes} bytes, the largest file that is read here.")
    return data


def read_text(path: str | os.PathLike[str], max_bytes: int) -> str:
    """Return the content of a file of UTF-8 text, with or without a byte order mark, with line ends as ``\\n``.

    Arguments and errors are as in :func:`open_regular`.

    Raises:
        FileError: If it is not UTF-8.
    """
    try:
        text = read_bytes(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{os.fspath(path)}: not UTF-8 text ({error}).") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _check(path: str | os.PathLike[str], status: os.stat_result, max_bytes: int | None) -> None:
    name = os.fspath(path)
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        target = os.path.realpath(name)
        link = f"is a link to {target}, which " if os.path.islink(name) and target != name else ""
        raise FileError(f"{name}: {link}is {kind}, not a file. Name a file, or copy the content into one.")
    if max_bytes is not None and status.st_size > max_bytes:
        raise FileError(
            f"{name}: holds {status.st_size} bytes, but at most {max_bytes} are read here. Is it the right file?"
        )
