"""Results of rows, kept in parts, so that interrupted work over many rows continues where it stopped.

What the parts are follows from the manifest alone (:func:`plan_parts`), so that several processes, or other ones after
an interruption, can each compute some of them and the whole does not depend on who did. ::

    OUT.parts/
    ├── key                          hash of the rows, weights and settings of all parts
    ├── 00000000-00000064.parquet    results of rows 0 to 63
    └── 00000000-00000064.json       rows of them that could not be read, written first
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from avssl.core.data_files import read_json
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.core.outputs import remove_files, remove_if_empty
from avssl.core.user_files import read_text
from avssl.core.whole_file import write_text
from avssl.data.ledger import Failure

Span = tuple[int, int]
"""(first row, row after the last) of a part."""

_MAX_KEY_BYTES = 2**12
_UNKNOWN_SECONDS = 60.0
"""Length of a row whose manifest does not have it: parts of many such rows are small rather than huge."""
_LONGEST_SECONDS = 1e9
"""A length above this is none."""


def plan_parts(num_clips: np.ndarray, size: int) -> list[Span]:
    """Divide rows into parts, the same for any number of processes.

    Args:
        num_clips: (N,) clips of each row, about, such as :func:`expected_windows`.
        size: Clips from which on a part ends; the last row of a part may have more.

    Returns:
        The parts, in the order of the rows.
    """
    clips_up_to = np.cumsum(num_clips)
    spans: list[Span] = []
    first = 0
    while first < len(num_clips):
        before = clips_up_to[first - 1] if first else 0
        stop = min(len(num_clips), int(np.searchsorted(clips_up_to, before + size)) + 1)
        spans.append((first, stop))
        first = stop
    return spans


def expected_windows(manifest: Manifest, clip_seconds: float, every_seconds: float) -> np.ndarray:
    """Return the (N,) number of windows of each row by its length in the manifest; no file is opened."""
    if "duration_seconds" in manifest:
        seconds = manifest["duration_seconds"]
    elif "start_seconds" in manifest and "stop_seconds" in manifest:
        seconds = manifest["stop_seconds"] - manifest["start_seconds"]
    else:
        seconds = np.full(len(manifest), np.nan)
    known = seconds.astype(np.float64)
    known = np.where(np.isfinite(known) & (known < _LONGEST_SECONDS), known, _UNKNOWN_SECONDS)
    return 1 + np.ceil(np.maximum(0.0, known - clip_seconds) / every_seconds).astype(np.int64)


class RowParts:
    """Parts of the results of one command on disk.

    Args:
        out: The file that they will be joined to. The folder of the parts has its name with ``.parts`` appended.
        suffix: Of the files of the parts, such as ``".npz"``.
        work: The work with its article, such as ``"an embedding"``, for messages.
        again: Advice for parts that are missing.
        error: Class of the errors.
    """

    def __init__(
        self, out: Path | str, suffix: str, *, work: str, again: str, error: type[InputError] = InputError
    ) -> None:
        self.out = Path(out)
        self.folder = self.out.with_name(self.out.name + ".parts")
        self._suffix, self._work, self._again, self._error = suffix, work, again, error
        self._name = re.compile(rf"(\d{{8}})-(\d{{8}}){re.escape(suffix)}")

    def begin(self, key: str, planned: Sequence[Span]) -> list[Span]:
        """Create the folder, or continue earlier work with the same key; return the parts that are missing.

        Args:
            key: Hash of everything that the parts depend on.
            planned: All parts, from :func:`plan_parts`; others that are there are removed, and their rows done again.

        Raises:
            InputError: If the folder holds parts with another key.
        """
        named = self.folder / "key"
        if not named.exists():
            self.discard()  # parts without a key are left of results that were joined
            write_text(named, key)
        elif read_text(named, _MAX_KEY_BYTES) != key:
            raise self._error(
                f"{self.folder}: holds parts of {self._work} of other files or weights, or with other settings. "
                "Do that to the end first, or discard them with --overwrite."
            )
        there = set(self._spans())
        for span in there - set(planned):
            self._path(span).unlink()
        return [span for span in planned if span not in there]

    def discard(self) -> None:
        """Remove the parts, their key first: parts without it are never used."""
        remove_files(self.folder, ("key", f"[0-9]*-[0-9]*{self._suffix}", "[0-9]*-[0-9]*.json"))
        remove_if_empty(self.folder)

    def add(self, first: int, stop: int, write: Callable[[Path], object], failures: Sequence[Failure]) -> None:
        """Keep the results of rows ``first`` to ``stop``; an interruption leaves all of them or none.

        ``write`` writes them to the path that it is given, whole or not at all.
        """
        path = self._path((first, stop))
        write_text(path.with_suffix(".json"), json.dumps([asdict(failure) for failure in failures]))
        write(path)

    def failures(self) -> list[Failure]:
        """Return the unreadable rows of all parts."""
        records = [read_json(path.with_suffix(".json")) for path in self.paths()]
        return [Failure(**values) for record in records for values in record]

    def paths(self) -> list[Path]:
        """Return the files of the parts, in the order of the rows."""
        return [self._path(span) for span in self._spans()]

    def check_complete(self, num_rows: int | None) -> None:
        """Raise an error if a part between others is missing, or the parts do not cover ``num_rows`` rows."""
        spans = self._spans()
        stops = [0, *(stop for _, stop in spans)]
        for (first, _), before in zip(spans, stops, strict=False):
            if first != before:
                raise self._error(f"{self.folder}: rows {before} to {first} are in no part. {self._again}")
        if num_rows is not None and stops[-1] != num_rows:
            raise self._error(f"{self.folder}: holds {stops[-1]} of {num_rows} rows. {self._again}")

    def _spans(self) -> list[Span]:
        """Return the parts that are there, in order."""
        names = (self._name.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted((int(name[1]), int(name[2])) for name in names if name)

    def _path(self, span: Span) -> Path:
        return self.folder / f"{span[0]:08d}-{span[1]:08d}{self._suffix}"
