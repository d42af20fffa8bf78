"""Read bytes of local files or of an object store: ``/data/x.tar``, ``s3://bucket/x.tar``, ``memory://x.tar``."""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from typing import Any, BinaryIO

from avssl.core.errors import AvsslError
from avssl.core.manifest import is_url
from avssl.core.user_files import open_regular

_log = logging.getLogger(__name__)

RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits between the tries of a read from an object store."""
_PATIENCE = 3  # after this many reads in a row that failed at every try, the store is down: do not wait any more
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, ValueError)


class StorageError(AvsslError, OSError):
    """A file that cannot be opened or read.

    Args:
        path: The file, or its URL.
        found: Why, as a sentence.
    """

    def __init__(self, path: str, found: str) -> None:
        super().__init__(f"{path}: {found}")
        self.path, self.found = path, found

    def __reduce__(self) -> tuple[type[StorageError], tuple[str, str]]:
        return type(self), (self.path, self.found)


class RangeReader:
    """Reads parts of many files, a few of them open at a time.

    Local files are read without moving a file position, so forked workers may share it. Anything else goes through
    fsspec, whose drivers (s3fs, gcsfs ...) are installed separately; a read that fails is tried again after
    :data:`RETRY_SECONDS`, unless the file is missing or forbidden. It pickles without its open files.

    Args:
        limit: Largest number of open local files.
    """

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._open: OrderedDict[str, BinaryIO] = OrderedDict()
        self._remote: dict[tuple[int, str], Any] = {}
        self._lost_reads = 0  # in a row, each after all tries

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Read ``size`` bytes from ``offset``; fewer at the end of the file.

        Raises:
            StorageError: If the file cannot be opened or read.
        """
        if is_url(path):
            return self._read_remote(path, offset, size)
        try:
            return os.pread(self._file(path).fileno(), size, offset)
        except (OSError, ValueError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error).removeprefix(f"{path}: ").rstrip(".")
            raise StorageError(path, f"cannot be read ({reason}).") from error

    def _read_remote(self, path: str, offset: int, size: int) -> bytes:
        waits = RETRY_SECONDS if self._lost_reads < _PATIENCE else ()
        for wait in (*waits, None):
            try:
                system, name = self._system(path)
                data: bytes = system.cat_file(name, start=offset, end=offset + size)
            except Exception as error:  # drivers raise their own kinds, from several networking libraries
                if isinstance(error, _PERMANENT):
                    raise StorageError(path, f"cannot be read ({type(error).__name__}: {error}).") from error
                if wait is None:
                    self._lost_reads += 1
                    found = f"cannot be read, tried {1 + len(waits)} times ({type(error).__name__}: {error})."
                    raise StorageError(path, found) from error
                _log.info("%s: %s; trying again in %g s", path, error, wait)
                time.sleep(wait)
            else:
                self._lost_reads = 0
                return data
        raise AssertionError("unreachable: the last try returns or raises")

    def close(self) -> None:
        """Close all open files."""
        while self._open:
            self._open.popitem()[1].close()

    def _file(self, path: str) -> BinaryIO:
        file = self._open.pop(path, None) or open_regular(path)
        self._open[path] = file
        while len(self._open) > self._limit:
            self._open.popitem(last=False)[1].close()
        return file

    def _system(self, path: str) -> tuple[Any, str]:
        key = os.getpid(), path.split("://", 1)[0]  # a forked process must open its own connections
        if key not in self._remote:
            import fsspec

            self._remote[key] = fsspec.filesystem(key[1])
        system = self._remote[key]
        return system, system._strip_protocol(path)

    def __reduce__(self) -> tuple[type[RangeReader], tuple[int]]:
        return RangeReader, (self._limit,)

    def __del__(self) -> None:
        self.close()
