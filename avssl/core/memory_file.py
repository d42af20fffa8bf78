"""Files in memory, which processes share by their descriptors."""

from __future__ import annotations

import os
import tempfile


def memory_file() -> int:
    """Return the descriptor of a new file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("avssl")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
