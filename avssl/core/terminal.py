"""Printing text of strangers: names, labels and metadata that a terminal must not obey, or cannot show."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from avssl.core.names import printable

_BY_PROGRESS_BARS = re.compile(r"(\r|\n|\x1b\[A)*")
"""Text that tqdm writes to move between its lines."""
_LINES = re.compile(r"(^\r+|\r*\n|\r+$|\t)")
"""Line ends and tabs, and the returns around a bar."""


class _PlainStream:
    """A stream that shows control characters as ``\\x1b``, and letters that its encoding lacks as ``\\u65e5``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; a name in it cannot steer the terminal."""
        if not text.isprintable() and not _BY_PROGRESS_BARS.fullmatch(text):
            text = "".join(part if _LINES.fullmatch(part) else printable(part) for part in _LINES.split(text))
        return self._stream.write(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def plain_output() -> Iterator[None]:
    """Let nothing that is printed steer the terminal, or fail because the terminal's encoding lacks a letter.

    Everything that is written to ``sys.stdout`` and ``sys.stderr`` in this block is covered: prints, logs, warnings,
    progress bars and messages of libraries.
    """
    before = sys.stdout, sys.stderr
    handling = {stream: stream.errors for stream in before if isinstance(stream, io.TextIOWrapper)}
    for stream in handling:
        stream.reconfigure(errors="backslashreplace")
    # A stream that was closed before the start is None.
    sys.stdout, sys.stderr = (stream and _PlainStream(stream) for stream in before)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream, errors in handling.items():
            with suppress(OSError, ValueError):  # its reader is gone, or it is closed
                stream.reconfigure(errors=errors)
