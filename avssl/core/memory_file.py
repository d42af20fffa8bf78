"""Files in memory, which processes share by their descriptors."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

MEMORY_FOLDER = "/proc/self/fd"
"""Folder of the paths of files in memory."""


def memory_file() -> int:
    """Return the descriptor of a new file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("avssl")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class MemoryFile:
    """A file in memory that libraries open by its path, in this process and in those that it forks.

    Args:
        content: The content of the file.
    """

    def __init__(self, content: bytes) -> None:
        self._descriptor = memory_file()
        with os.fdopen(os.dup(self._descriptor), "wb") as file:
            file.write(content)
        self.path = Path(MEMORY_FOLDER, str(self._descriptor))
        """Its path until it is closed."""

    def close(self) -> None:
        """Release the memory. Closing twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
