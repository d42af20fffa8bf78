"""Read a table from a CSV, Parquet or Arrow file, or from an object store; the first bytes tell which it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pyarrow as pa

from avssl.core import column_files
from avssl.core.tables import MAX_TABLE_BYTES, TableError, parse_table
from avssl.core.user_files import open_regular, read_bytes

TableKind = Literal["csv", "parquet", "arrow"]


def is_url(path: Path | str) -> bool:
    """Return True if a path is in an object store (``s3://bucket/x``)."""
    return "://" in str(path)


def is_columnar(path: Path | str) -> bool:
    """Return True if a path is named as a Parquet file."""
    return str(path).lower().endswith(".parquet")


def read_table(path: Path | str, types: Mapping[str, pa.DataType]) -> tuple[pa.Table, TableKind]:
    """Read a table.

    Args:
        path: The file, or a URL of a CSV or Parquet file.
        types: Types of the known columns; others are read as strings. An Arrow file has the types that it was written
            with.

    Raises:
        TableError: If it cannot be read; the message names the file, the line and the column.
        OSError: If there is no file.
    """
    if is_url(path):
        data = _fetch(str(path))
        if data.startswith(column_files.PARQUET):
            return column_files.read_parquet(pa.py_buffer(data), str(path), types), "parquet"
        return parse_table(data, str(path), types), "csv"
    with open_regular(path) as file:
        first = file.read(len(column_files.ARROW))
    if first.startswith(column_files.PARQUET):
        return column_files.read_parquet(Path(path), str(path), types), "parquet"
    if first.startswith(column_files.ARROW):
        return column_files.map_arrow(path), "arrow"
    return parse_table(read_bytes(path, MAX_TABLE_BYTES), str(path), types), "csv"


def _fetch(url: str) -> bytes:
    import fsspec

    try:
        system, name = fsspec.core.url_to_fs(url)
        data: bytes = system.cat_file(name, start=0, end=MAX_TABLE_BYTES + 1)
    except (OSError, ImportError, ValueError) as error:
        raise TableError(f"{url}: cannot be read ({error}).") from error
    if len(data) > MAX_TABLE_BYTES:
        raise TableError(
            f"{url}: holds more than {MAX_TABLE_BYTES >> 30} GiB, the largest table that is read from there."
        )
    return data
