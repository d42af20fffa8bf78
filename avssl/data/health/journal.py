"""The journal of a folder: the reports of earlier checks, one line of JSON per file.

A kill loses the last line at most. A line is valid while the file has the same size and modification time, and the
settings of the check are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Self, TextIO

from avssl.core.whole_file import names_full_disk, write_text
from avssl.data.health.report import HealthReport, HealthSettings

_FORMAT = 1
"""Raise this when the meaning of a report changes: older lines then become invalid."""


class HealthJournal:
    """The journal of one folder; a context manager that closes its file.

    Args:
        path: File of the journal; made if missing. None stores nothing.
        root: Folder that the names in it are relative to.
        settings: Depth and limits of the check.
    """

    def __init__(self, path: Path | None, root: Path, settings: HealthSettings) -> None:
        self.path = path
        self.root = root
        self._limit_seconds = settings.limit_seconds
        kept = asdict(settings)
        del kept["timeout_seconds"]  # only files that ran out of time depend on it
        self._way = hashlib.sha256(json.dumps([_FORMAT, kept]).encode()).hexdigest()[:12]
        self._lines, self._num_lines = ({}, 0) if path is None else _read(path)
        self._files: dict[str, list[int] | None] = {}
        self._file: TextIO | None = None

    def known(self, name: str) -> HealthReport | None:
        """Return the report of an unchanged file, or None if it must be checked; call this before the check."""
        self._files[name] = file = self._identity(name)
        line = json.loads(self._lines.get(name, "{}"))
        if line.get("way") != self._way or line.get("file") != file or file is None:
            return None
        try:
            report = HealthReport.from_dict(line["report"], str(self.root / name))
        except (KeyError, TypeError):  # a line that was edited
            return None
        if report.status == "timeout" and self._limit_seconds > line.get("limit_seconds", 0.0):
            return None
        return report

    def add(self, name: str, report: HealthReport) -> None:
        """Write the report of a file after :meth:`known`, so that a file changed meanwhile counts as changed."""
        if self.path is None:
            return
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8")
            self._file.write("\n" if self._num_lines else "")  # a line that was cut by a kill must not damage the next
        line = {"name": name, "file": self._files[name], "way": self._way, "limit_seconds": self._limit_seconds}
        text = json.dumps(line | {"report": report.to_dict()})
        self._lines[name] = text
        self._num_lines += 1
        with names_full_disk(self.path):
            self._file.write(text + "\n")
            self._file.flush()

    def compact(self, names: Iterable[str]) -> None:
        """Keep the last line of each of these files, and remove the others."""
        kept = [self._lines[name] + "\n" for name in names if name in self._lines]
        self.close()
        if self.path is None or len(kept) == self._num_lines:
            return
        write_text(self.path, "".join(kept))

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _identity(self, name: str) -> list[int] | None:
        """Return [bytes, modification time in nanoseconds]; None if they cannot be read."""
        try:
            status = os.stat(self.root / name)
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns]


def _read(path: Path) -> tuple[dict[str, str], int]:
    """Return name → the text of its last whole line, and the number of lines."""
    texts: dict[str, str] = {}
    if not path.is_file():
        return texts, 0
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for text in lines:
        try:
            texts[json.loads(text)["name"]] = text
        except (ValueError, TypeError, KeyError):  # cut by a kill
            continue
    return texts, len(lines)
