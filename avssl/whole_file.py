"""Files that are whole or not there: written under a temporary name and renamed at the end.

A kill, a power cut or a full disk at any moment leaves the file there was before, and never half of a new
one. Several processes may write the same file: the last one to finish stays.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: str | os.PathLike[str], *, durable: bool = False, replace: bool = True) -> Iterator[Path]:
    """Gives the temporary name to write to, and renames it to ``path`` when the block ends without an error.

    Args:
        path: The file; its folder is made.
        durable: On the disk when the block is left, so that it outlives a power cut.
        replace: Whether it may take the place of a file that is there.

    Raises:
        FileExistsError: If it is there and is not to be replaced.
        OSError: If there is no room for it, or it is larger than this system allows; says how much is free.

    Example:
        >>> with whole_file("results.npz") as temporary, temporary.open("wb") as file:
        ...     np.savez(file, scores=scores)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield temporary
        if durable:
            _flush(temporary)
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)
        if durable:  # the new name is on the disk only once its folder is
            _flush(path.parent)
    except Exception as error:
        number = _no_room(error)
        if number is None:
            raise
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            number, f"cannot be written: {os.strerror(number)} ({free / 2**20:.0f} MiB free); make room", str(path)
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(path: Path) -> list[Path]:
    """What processes that were killed, or are still at it, have of ``path``."""
    return sorted(path.parent.glob(f".{path.name}.*.tmp"))


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any], *, replace: bool = True) -> None:
    """Writes plain values as a whole file; errors as :func:`whole_file`."""
    with whole_file(path, replace=replace) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _no_room(error: BaseException | None) -> int | None:
    """The system's reason behind an error: torch raises a RuntimeError of its own over it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return error.errno
        error = error.__cause__ or error.__context__
    return None
