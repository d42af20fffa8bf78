"""Write a table in parts, so that an interrupted ``avssl embed`` continues where it stopped.

::

    OUT.parts/
    ├── key                          hash of the rows, weights and settings of all parts
    ├── 00000000-00000064.parquet    windows of rows 0 to 63
    └── 00000000-00000064.json       rows of them that could not be read, written first
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq

from avssl.core.data_files import read_json
from avssl.core.outputs import remove_files, remove_if_empty
from avssl.core.user_files import read_text, regular_file
from avssl.core.whole_file import write_text
from avssl.data.ledger import Failure
from avssl.features.table.table import (
    FeatureTable,
    FeatureTableError,
    TableInfo,
    read_feature_table,
    write_feature_table,
    write_joined,
)

_MAX_KEY_BYTES = 2**12
_AGAIN = "Embed again: finished parts are kept."
_NAME = re.compile(r"(\d{8})-(\d{8})\.parquet")


class TableParts:
    """Parts of one table on disk.

    Args:
        out: The table's file. The folder of the parts has its name with ``.parts`` appended.
    """

    def __init__(self, out: Path | str) -> None:
        self.out = Path(out)
        self.folder = self.out.with_name(self.out.name + ".parts")

    def begin(self, key: str) -> int:
        """Create the folder, or continue an earlier embedding with the same key.

        Args:
            key: Hash of everything that the parts depend on.

        Returns:
            The first row that is in no part.

        Raises:
            FeatureTableError: If the folder holds parts with another key.
        """
        named = self.folder / "key"
        if not named.exists():
            self.discard()  # parts without a key are left of a table that was joined
            write_text(named, key)
        elif read_text(named, _MAX_KEY_BYTES) != key:
            raise FeatureTableError(
                f"{self.folder}: holds parts of an embedding of other files or weights, or with other settings. "
                "Embed those to the end first, or discard them with --overwrite."
            )
        first = 0
        for span in self._spans():
            if span[0] == first:
                first = span[1]
            else:  # behind a gap: its rows are embedded again
                self._path(span).unlink()
        return first

    def discard(self) -> None:
        """Remove the parts, their key first: parts without it are never used."""
        remove_files(self.folder, ("key", "[0-9]*-[0-9]*.parquet", "[0-9]*-[0-9]*.json"))
        remove_if_empty(self.folder)

    def add(self, first: int, stop: int, table: FeatureTable, failures: Sequence[Failure]) -> None:
        """Write the windows of rows ``first`` to ``stop``; an interruption leaves all of them or none."""
        path = self._path((first, stop))
        write_text(path.with_suffix(".json"), json.dumps([asdict(failure) for failure in failures]))
        write_feature_table(table, path)

    def failures(self) -> list[Failure]:
        """Return the unreadable rows of all parts."""
        records = [read_json(path.with_suffix(".json")) for path in self._paths()]
        return [Failure(**values) for record in records for values in record]

    def num_windows(self) -> int:
        """Return the number of windows in all parts."""
        return sum(pq.read_metadata(regular_file(path)).num_rows for path in self._paths())

    def join(self, info: TableInfo, num_rows: int | None = None) -> None:
        """Write the table, with one part in memory at a time, and remove the parts.

        Args:
            info: Description of the table.
            num_rows: Number of rows that the parts must cover; None checks only that no part between others is missing.

        Raises:
            FeatureTableError: If parts are missing, or one cannot be read.
        """
        spans = self._spans()
        stops = [0, *(stop for _, stop in spans)]
        for (first, _), before in zip(spans, stops, strict=False):
            if first != before:
                raise FeatureTableError(f"{self.folder}: rows {before} to {first} are in no part. {_AGAIN}")
        if num_rows is not None and stops[-1] != num_rows:
            raise FeatureTableError(f"{self.folder}: holds {stops[-1]} of {num_rows} rows. {_AGAIN}")
        write_joined(info, map(_read_part, map(self._path, spans)), self.out)
        self.discard()

    def _spans(self) -> list[tuple[int, int]]:
        """Return (first row, row after the last) of each part, in order."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted((int(name[1]), int(name[2])) for name in names if name)

    def _path(self, span: tuple[int, int]) -> Path:
        return self.folder / f"{span[0]:08d}-{span[1]:08d}.parquet"

    def _paths(self) -> list[Path]:
        return [self._path(span) for span in self._spans()]


def _read_part(path: Path) -> FeatureTable:
    try:
        return read_feature_table(path)
    except FeatureTableError as error:
        raise FeatureTableError(f"{error} Remove this part and embed again: only its rows are read again.") from error
