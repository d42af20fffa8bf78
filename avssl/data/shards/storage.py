"""Read bytes of local files or of an object store: ``/data/x.tar``, ``s3://bucket/x.tar``, ``memory://x.tar``."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

from avssl.core.errors import AvsslError
from avssl.core.manifest import is_url


class StorageError(AvsslError, OSError):
    """A file that cannot be opened or read."""


class RangeReader:
    """Reads parts of many files, a few of them open at a time.

    Local files are read without moving a file position, so forked workers may share it. Anything else goes through
    fsspec, whose drivers (s3fs, gcsfs ...) are installed separately. It pickles without its open files.

    Args:
        limit: Largest number of open local files.
    """

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._open: OrderedDict[str, int] = OrderedDict()
        self._remote: dict[tuple[int, str], Any] = {}

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Read ``size`` bytes from ``offset``; fewer at the end of the file.

        Raises:
            StorageError: If the file cannot be opened or read.
        """
        try:
            if is_url(path):
                system, name = self._system(path)
                data: bytes = system.cat_file(name, start=offset, end=offset + size)
                return data
            return os.pread(self._descriptor(path), size, offset)
        except (OSError, ImportError, ValueError) as error:
            raise StorageError(f"{path}: cannot be read ({error}).") from error

    def close(self) -> None:
        """Close all open files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _descriptor(self, path: str) -> int:
        descriptor = self._open.pop(path, None)
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._open[path] = descriptor
        while len(self._open) > self._limit:
            os.close(self._open.popitem(last=False)[1])
        return descriptor

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
