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
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq

from avssl.core.data_files import read_json
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
        self.folder.mkdir(parents=True, exist_ok=True)
        named = self.folder / "key"
        if not named.exists():
            write_text(named, key)
        elif read_text(named, _MAX_KEY_BYTES) != key:
            raise FeatureTableError(
                f"{self.folder}: holds parts of an embedding of other files or weights, or with other settings. "
                "Embed those to the end first, or discard them with --overwrite."
            )
        return self._spans()[-1][1] if self._spans() else 0

    def discard(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, first: int, stop: int, table: FeatureTable, failures: Sequence[Failure]) -> None:
        """Write the windows of rows ``first`` to ``stop``; an interruption leaves all of them or none."""
        path = self.folder / f"{first:08d}-{stop:08d}.parquet"
        write_text(path.with_suffix(".json"), json.dumps([asdict(failure) for failure in failures]))
        write_feature_table(table, path)

    def failures(self) -> list[Failure]:
        """Return the unreadable rows of all parts."""
        records = [read_json(path.with_suffix(".json")) for path in self._paths()]
        return [Failure(**values) for record in records for values in record]

    def num_windows(self) -> int:
        """Return the number of windows in all parts."""
        return sum(pq.read_metadata(regular_file(path)).num_rows for path in self._paths())

    def join(self, info: TableInfo) -> None:
        """Write the table, with one part in memory at a time, and remove the parts.

        Raises:
            FeatureTableError: If a part cannot be read.
        """
        write_joined(info, (read_feature_table(path) for path in self._paths()), self.out)
        self.discard()

    def _spans(self) -> list[tuple[int, int]]:
        """Return (first row, row after the last) of each part, in order."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted((int(name[1]), int(name[2])) for name in names if name)

    def _paths(self) -> list[Path]:
        return [self.folder / f"{first:08d}-{stop:08d}.parquet" for first, stop in self._spans()]
