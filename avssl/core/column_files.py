"""Tables of very many rows: Parquet, which other programs read and write, and Arrow, which is mapped into memory.

A Parquet file is decoded into memory, column by column. An Arrow file is used where it lies on the disk: opening it
takes no time, only what is looked at is read, and all processes of a machine share it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from avssl.core.tables import TableError
from avssl.core.user_files import regular_file
from avssl.core.whole_file import whole_file

PARQUET, ARROW = b"PAR1", b"ARROW1"
"""First bytes of the files."""

_MAX_EXPANSION = 256
"""Memory for each byte of a Parquet file: names of shards repeat, and are stored once."""
_FREE_BYTES = 2**30
"""Memory that any Parquet file may need."""
_BLOCK_ROWS = 2**20
"""Rows of a block that is written: text of up to 2 KiB a row fits into Arrow's strings, which hold 2 GiB a block."""
_READ_ROWS = 2**17


def read_parquet(source: Path | str | pa.Buffer, name: str, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Read a Parquet file with the same rules as a CSV: empty text and NaN are empty cells, the rest are text.

    Args:
        source: The file, or its content.
        name: Name of the file in errors.
        types: Types of the known columns. Other columns are read as strings.

    Raises:
        TableError: If this is no Parquet file, it is too large, or a cell has another type.
    """
    where = pa.BufferReader(source) if isinstance(source, pa.Buffer) else str(regular_file(source))
    size = source.size if isinstance(source, pa.Buffer) else os.stat(source).st_size
    try:
        with pq.ParquetFile(where, memory_map=True, page_checksum_verification=True) as file:
            texts = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
        # A text that repeats stays in memory once, until it is known how much all of them take.
        with pq.ParquetFile(where, memory_map=True, page_checksum_verification=True, read_dictionary=texts) as file:
            table = _read_bounded(file, name, max(_FREE_BYTES, _MAX_EXPANSION * size))
    except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError, IndexError) as error:
        raise TableError(f"{name}: cannot be read as Parquet ({error}). Write the file again.") from error
    titles = [title.casefold() if title.casefold() in types else title for title in table.column_names]
    columns = []
    for title, column in zip(titles, table.columns, strict=True):
        columns.append(_typed(column, types.get(title, pa.string()), f"{name}: the column {title!r}"))
    return pa.Table.from_arrays(columns, names=titles).replace_schema_metadata(table.schema.metadata)


def _read_bounded(file: pq.ParquetFile, name: str, limit_bytes: int) -> pa.Table:
    """Read all rows; raise an error if they need more memory than a file of this size can stand for."""
    meta = file.metadata
    # Looking at single columns aborts the process if the header is damaged.
    size = sum(abs(meta.row_group(number).total_byte_size) for number in range(meta.num_row_groups))
    blocks: list[pa.RecordBatch] = []
    if size <= limit_bytes:
        size = 0
        for block in file.iter_batches(_READ_ROWS):
            blocks.append(block)
            size += sum(map(_full_bytes, block.columns))
            if size > limit_bytes:
                break
    if size > limit_bytes:
        raise TableError(f"{name}: would need {size >> 20} MiB or more, which no table of its size holds: damaged?")
    return pa.Table.from_batches(blocks, file.schema_arrow)


def _full_bytes(column: pa.Array) -> int:
    """Return the memory of a column whose repeated texts are written out."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    return int(pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0) + column.nbytes


def _typed(column: pa.ChunkedArray, kind: pa.DataType, what: str) -> pa.ChunkedArray:
    """Return a column with a type, and without empty text or NaN."""
    if pa.types.is_floating(column.type) and pc.any(is_nan := pc.is_nan(column)).as_py():
        column = pc.if_else(is_nan, None, column)
    if column.type != kind:
        if pa.types.is_nested(column.type):
            raise TableError(f"{what} holds {column.type}, and a cell is text or a number. Convert or remove it.")
        try:
            column = column.cast(kind)
        except pa.ArrowException as error:
            held = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
            raise TableError(f"{what} holds {held}, and {kind} is expected ({error}).") from error
    if pa.types.is_string(kind) and pc.any(is_empty := pc.equal(column, "")).as_py():
        column = pc.if_else(is_empty, None, column)
    return column


def map_arrow(path: Path | str) -> pa.Table:
    """Map an Arrow file of :func:`write_arrow` into memory.

    Raises:
        TableError: If this is no such file, or not all of it.
    """
    try:
        with pa.memory_map(str(regular_file(path))) as file:
            table = pa.ipc.open_file(file).read_all()
            table.validate()
            return table
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path}: cannot be read as an Arrow file ({error}).") from error


def write_parquet(table: pa.Table, path: Path | str) -> None:
    """Write a Parquet file, whole or not at all."""
    with whole_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=_BLOCK_ROWS)


def write_arrow(table: pa.Table, path: Path | str) -> None:
    """Write an Arrow file to be mapped into memory, whole or not at all."""
    with (
        whole_file(path) as temporary,
        pa.OSFile(os.fspath(temporary), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=_BLOCK_ROWS)
