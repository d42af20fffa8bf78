"""The journal of a folder: the reports of earlier checks, one line of JSON per file.

It lies in the user's cache folder, under a name made of the folder's resolved path: a folder of data may be read-only,
and whatever came with it, such as a journal that calls every file healthy, is not believed.

A kill loses the last line at most. A line is valid while the file has the same size and times, and the settings of the
check are the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, Literal, Self, TextIO

from avssl.core.cache_folder import cache_folder
from avssl.core.user_files import open_regular
from avssl.core.whole_file import names_full_disk, write_text
from avssl.data.health.report import HealthReport, HealthSettings
from avssl.data.health.segments import Segments

_FORMAT = 3
"""Raise this when the meaning of a report changes: older lines then become invalid."""

_LOGGER = logging.getLogger(__name__)

JournalUse = Literal["update", "read", "off"]
"""``"update"`` reuses and stores reports, ``"read"`` stores none, ``"off"`` does neither."""


class HealthJournal:
    """The journal of one folder and one way of checking; a context manager that closes its file.

    Args:
        use: Whether reports are reused and stored. They are not stored either where the cache folder cannot be
            written.
        root: Folder that the names in it are relative to.
        settings: Depth and limits of the check.
        segments: Rows of long files.
    """

    def __init__(self, use: JournalUse, root: Path, settings: HealthSettings, segments: Segments) -> None:
        self.root = root
        self._limit_seconds = settings.limit_seconds
        self._segments = segments
        self.path = None if use == "off" else journal_path(root, settings)
        self._is_updated = use == "update"
        self._lines, self._num_lines = ({}, 0) if self.path is None else _read(self.path)
        self._files: dict[str, list[int] | None] = {}
        self._file: TextIO | None = None

    def known(self, name: str) -> HealthReport | None:
        """Return the report of an unchanged file, or None if it must be checked; call this before the check."""
        self._files[name] = file = self._identity(name)
        line = json.loads(self._lines.get(name, "{}"))
        if line.get("file") != file or file is None:
            return None
        try:
            report = HealthReport.from_dict(line["report"], str(self.root / name))
            segments = Segments(*line["segments"])
        except (KeyError, TypeError, ValueError):  # a line that was edited
            return None
        if report.status == "timeout" and self._limit_seconds > line.get("limit_seconds", 0.0):
            return None
        if segments != self._segments and (report.is_cut(segments) or report.is_cut(self._segments)):
            return None
        return report

    def add(self, name: str, report: HealthReport) -> None:
        """Write the report of a file after :meth:`known`, so that a file changed meanwhile counts as changed."""
        file = self._opened()
        if file is None or self.path is None:
            return
        line = {"name": name, "file": self._files[name], "limit_seconds": self._limit_seconds}
        text = json.dumps(line | {"segments": astuple(self._segments), "report": report.to_dict()})
        self._lines[name] = text
        self._num_lines += 1
        with names_full_disk(self.path):
            file.write(text + "\n")
            file.flush()

    def _opened(self) -> TextIO | None:
        if self._file is None and self._is_updated and self.path is not None:
            try:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = self.path.open("a", encoding="utf-8")
                self._file.write("\n" if self._num_lines else "")  # a line cut by a kill must not damage the next
            except OSError as error:
                _LOGGER.info("note        health reports are not kept for the next time: %s", error)
                self._is_updated = False
        return self._file

    def compact(self, names: Iterable[str]) -> None:
        """Keep the last line of each of these files, and remove the others."""
        kept = [self._lines[name] + "\n" for name in names if name in self._lines]
        self.close()
        if self.path is None or not self._is_updated or len(kept) == self._num_lines:
            return
        try:
            write_text(self.path, "".join(kept))
        except OSError as error:
            _LOGGER.info("note        %s keeps lines of files that are gone: %s", self.path, error)

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        file, self._file = self._file, None
        if file is not None and self.path is not None:
            with names_full_disk(self.path):  # closing writes again what a full disk did not take
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _identity(self, name: str) -> list[int] | None:
        """Return the size and the times of the last change of content and of the entry; None if unreadable."""
        try:
            status = os.stat(self.root / name)
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def journal_path(root: Path | str, settings: HealthSettings) -> Path | None:
    """Return the file that holds the reports of a folder; None if this user has no cache folder."""
    cache = cache_folder()
    if cache is None:
        return None
    kept: dict[str, Any] = asdict(settings)
    del kept["timeout_seconds"]  # only files that ran out of time depend on it
    key = json.dumps([_FORMAT, os.fsencode(os.path.realpath(root)).hex(), kept])
    return cache / "health" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.jsonl"


def _read(path: Path) -> tuple[dict[str, str], int]:
    """Return name → the text of its last whole line, and the number of lines."""
    texts: dict[str, str] = {}
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():  # in a shared cache folder others may have written it
                return texts, 0
            lines = file.read().decode("utf-8", errors="replace").split("\n")
    except OSError:
        return texts, 0
    for text in lines:
        try:
            texts[json.loads(text)["name"]] = text
        except (ValueError, TypeError, KeyError):  # cut by a kill
            continue
    return texts, len(lines)
