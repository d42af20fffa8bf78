"""Write a table in parts, so that an interrupted ``avssl embed`` continues where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from avssl.core.user_files import regular_file
from avssl.data.ledger import Failure
from avssl.data.row_parts import RowParts
from avssl.features.table.table import (
    FeatureTable,
    FeatureTableError,
    TableInfo,
    read_feature_table,
    write_feature_table,
    write_joined,
)


class TableParts(RowParts):
    """Parts of one table on disk, a Parquet file each.

    Args:
        out: The table's file.
    """

    def __init__(self, out: Path | str) -> None:
        again = "Embed again: finished parts are kept."
        super().__init__(out, ".parquet", work="an embedding", again=again, error=FeatureTableError)

    def add_table(self, first: int, stop: int, table: FeatureTable, failures: Sequence[Failure]) -> None:
        """Write the windows of rows ``first`` to ``stop``; an interruption leaves all of them or none."""
        self.add(first, stop, partial(write_feature_table, table), failures)

    def num_windows(self) -> int:
        """Return the number of windows in all parts."""
        return sum(pq.read_metadata(regular_file(path)).num_rows for path in self.paths())

    def join(self, info: TableInfo, num_rows: int | None = None) -> None:
        """Write the table, with one part in memory at a time, and remove the parts.

        Args:
            info: Description of the table.
            num_rows: Number of rows that the parts must cover; None checks only that no part between others is missing.

        Raises:
            FeatureTableError: If parts are missing, or one cannot be read.
        """
        self.check_complete(num_rows)
        write_joined(info, map(_read_part, self.paths()), self.out)
        self.discard()


def _read_part(path: Path) -> FeatureTable:
    try:
        return read_feature_table(path)
    except FeatureTableError as error:
        raise FeatureTableError(f"{error} Remove this part and embed again: only its rows are read again.") from error
