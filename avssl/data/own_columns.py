"""Columns that users added to a manifest (label, split ...), kept when the manifest is made again.

Rows are matched by id. Cells of rows that are gone are not lost either: they are kept in a second table, from which
they come back with their rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avssl.core.manifest import Manifest


@dataclass(frozen=True)
class MergedManifest:
    """A manifest that was made again, with the users' columns of the earlier one."""

    manifest: Manifest
    """The new rows, with the columns of both."""
    own_columns: tuple[str, ...]
    """Columns that only the earlier manifest has."""
    num_kept: int
    """Rows that the earlier manifest has too."""
    gone: Manifest
    """Earlier rows that the new manifest lacks, with all their columns."""


def merge_own_columns(made: Manifest, *earlier: Manifest) -> MergedManifest:
    """Add the users' columns of earlier manifests; the first one that has an id decides its cells.

    Args:
        made: The new manifest.
        earlier: The manifest that it replaces, then rows that were gone before.
    """
    table = _joined([manifest.table for manifest in earlier])
    own = tuple(name for name in table.column_names if name not in made.table.column_names)
    rows = {value: row for row, value in enumerate(table["id"].to_pylist())}
    ids = made.table["id"].to_pylist()
    take = pa.array([rows.get(value) for value in ids], pa.int64())
    merged = made.table
    for name in own:
        merged = merged.append_column(name, table[name].take(take))
    missing = np.setdiff1d(np.arange(len(table)), [rows[value] for value in ids if value in rows])
    gone = Manifest(table.take(pa.array(missing, pa.int64())), made.root)
    return MergedManifest(Manifest(merged, made.root), own, len(ids) - take.null_count, gone)


def with_own_cells(manifest: Manifest, columns: Collection[str]) -> Manifest:
    """Return the rows that have a value in one of these columns."""
    keep = np.zeros(len(manifest), dtype=bool)
    for name in columns:
        keep |= pc.is_valid(manifest.table[name]).to_numpy(zero_copy_only=False)
    return manifest.select(keep)


def _joined(tables: list[pa.Table]) -> pa.Table:
    """Return the rows of all tables; of rows with the same id, the first."""
    table = pa.concat_tables(tables, promote_options="default")
    rows: dict[str, int] = {}
    for row, value in enumerate(table["id"].to_pylist()):
        rows.setdefault(value, row)
    return table.take(pa.array(rows.values(), pa.int64()))
