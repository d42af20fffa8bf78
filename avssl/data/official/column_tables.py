"""Read text tables of millions of lines as columns: seconds and a few hundred MB where lines alone take minutes.

Whatever is odd about a table is an :class:`OddTableError`, without a place: read it again with
:func:`avssl.data.official.annotations.read_table`, which names the line and the column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from avssl.core.errors import InputError
from avssl.core.user_files import open_regular

_BLOCK_BYTES = 8 << 20


class OddTableError(InputError):
    """A table that is not uniform: read it line by line."""


def read_column_blocks(path: Path, columns: Sequence[str], comment: str) -> Iterator[pa.Table]:
    """Yield blocks of a comma-separated table without a header, with spaces around cells dropped.

    Args:
        path: UTF-8 text.
        columns: Names of all columns, in order.
        comment: Prefix of lines to skip.

    Yields:
        Tables of strings.

    Raises:
        OddTableError: If a line has another number of cells, or is no text.
    """
    options = {
        "read_options": pa_csv.ReadOptions(column_names=list(columns)),
        "convert_options": pa_csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), check_utf8=True),
    }
    with open_regular(path) as file:
        while lines := file.readlines(_BLOCK_BYTES):
            kept = [line for line in lines if line.strip() and not line.startswith(comment.encode())]
            # A quote after a space is none for the parser.
            block = b"".join(kept).replace(b', "', b',"').removeprefix(b"\xef\xbb\xbf")
            if not block:
                continue
            try:
                table = pa_csv.read_csv(pa.BufferReader(block), **options)
            except pa.ArrowInvalid as error:
                raise OddTableError(f"{path}: {error}") from error
            yield pa.table({name: pc.utf8_trim_whitespace(table[name]) for name in columns})


def as_seconds(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert cells to finite numbers >= 0.

    Raises:
        OddTableError: If one is something else.
    """
    try:
        values = pc.cast(cells, pa.float64())
    except pa.ArrowInvalid as error:
        raise OddTableError(str(error)) from error
    if not pc.all(pc.and_(pc.is_finite(values), pc.greater_equal(values, 0.0))).as_py():
        raise OddTableError("a number of seconds is not finite, or below 0.")
    return values


def decimals(values: pa.ChunkedArray, places: int) -> pa.ChunkedArray:
    """Format numbers >= 0 with a fixed number of decimals, as ``f"{value:.3f}"`` does."""
    scaled = pc.cast(pc.round(pc.multiply(values, float(10**places))), pa.int64())
    whole = pc.divide(scaled, 10**places)
    rest = pc.subtract(scaled, pc.multiply(whole, 10**places))
    padded = pc.utf8_lpad(pc.cast(rest, pa.string()), places, "0")
    return pc.binary_join_element_wise(pc.cast(whole, pa.string()), padded, ".")
