"""CSV tables: read as spreadsheets and people write them, written so that a spreadsheet computes nothing from them.

Text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return would be a formula in a spreadsheet. It is
written with an apostrophe before it, which reading takes away; plain numbers such as ``-3.5`` stay as they are.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from avssl.core.errors import InputError
from avssl.core.whole_file import whole_file

MAX_TABLE_BYTES = 2**31
"""Largest CSV that is read: ten times the manifest of AudioSet's two million clips."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAVE_AGAIN = "Save the table as CSV in UTF-8."
"""Advice for tables in other formats."""
_DELIMITERS = ",;\t"
_NUMBER = r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_FORMULA, _ESCAPED, _MERE_NUMBER = r"^'*[=+\-@\t\r]", r"^'+[=+\-@\t\r]", rf"^'*{_NUMBER}$"


class TableError(InputError):
    """A table that cannot be used; the message names the file, the line and the column."""


def write_table(table: pa.Table, path: Path | str) -> None:
    """Write a CSV, whole or not at all."""
    write_parts([table], path)


def write_parts(parts: Iterable[pa.Table], path: Path | str) -> None:
    """Write the parts of a table, at least one, as :func:`write_table` does; one is held at a time."""
    with whole_file(path) as temporary, ExitStack() as files:
        writer = None
        for part in parts:
            columns = [_escaped(column) if pa.types.is_string(column.type) else column for column in part.columns]
            names = _escaped(pa.array(part.column_names, pa.string())).to_pylist()
            table = pa.Table.from_arrays(columns, names=names)
            writer = writer or files.enter_context(pa_csv.CSVWriter(temporary, table.schema))
            writer.write_table(table)


def parse_table(data: bytes, source: str, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Parse a CSV.

    Commas, semicolons or tabs separate cells, with or without blanks after them; with semicolons, numbers may have a
    decimal comma. Text is UTF-8, or UTF-16 or UTF-32 with a byte order mark. Rows without any cell and columns without
    a name are ignored.

    Args:
        data: Content of the file.
        source: Name of the file in errors.
        types: Types of the known columns, which may be in capitals in the file. Other columns are read as strings.

    Raises:
        TableError: If this is no such table, a column stands twice, or a cell has another type.
    """
    data = _as_utf8(data, source)
    layout = _find_layout(data, source, types)
    parsed = _without_blanks(data, layout, source) if layout.has_blanks else data
    ways = [(".", False), (".", True), (",", True)][: 3 if layout.delimiter == ";" else 2]
    table = next((found for way in ways if (found := _try_parse(parsed, layout, *way)) is not None), None)
    if table is None or len(table) + 1 != _num_lines(parsed):  # a quote that is never closed swallows lines
        _check_cells(data, layout, source)
    if table is None:
        raise TableError(f"{source}: cannot be read as a CSV. {SAVE_AGAIN}")
    named = [place for place, title in enumerate(layout.titles) if title]
    table = table.select(named).rename_columns([layout.titles[place] for place in named])
    table = _without_empty_rows(table)
    columns = [_unescaped(column) if pa.types.is_string(column.type) else column for column in table.columns]
    return pa.Table.from_arrays(columns, names=table.column_names)


def encoding_of(head: bytes, source: str) -> str:
    """Return the encoding of a text file from its first bytes.

    Raises:
        TableError: If it is a workbook, or UTF-16 without a byte order mark.
    """
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):  # xlsx and ods; xls
        raise TableError(f"{source}: is a workbook or another packed file, not text. {SAVE_AGAIN}")
    if b"\0" in head:
        line = head[: head.index(b"\0")].count(b"\n") + 1
        raise TableError(f"{source}:{line}: holds a zero byte, so this is not text in UTF-8. {SAVE_AGAIN}")
    return "utf-8"


@dataclass(frozen=True)
class _Layout:
    """Delimiter and columns of a table, from its header."""

    delimiter: str
    has_blanks: bool
    """True if blanks follow the delimiters, which belong to no cell."""
    raw_names: list[str]
    """Names as they stand in the file."""
    titles: list[str]
    """Names of the columns; empty for columns to ignore."""
    types: list[pa.DataType]


def _as_utf8(data: bytes, source: str) -> bytes:
    encoding = encoding_of(data, source)
    if encoding == "utf-8-sig":
        data = data.removeprefix(codecs.BOM_UTF8)
    elif encoding != "utf-8":
        try:
            data = data.decode(encoding).encode()
        except UnicodeError as error:
            raise TableError(f"{source}: not text in {encoding.upper()} ({error}). {SAVE_AGAIN}") from error
    # Excel's own line about the delimiter; the lines after it keep their numbers.
    return re.sub(rb'\A"?sep=[^\r\n]"?(?=[\r\n])', b"", data)


def _find_layout(data: bytes, source: str, types: Mapping[str, pa.DataType]) -> _Layout:
    """Choose the delimiter that gives the most known columns, and the most columns among those."""
    found = [_layout_with(delimiter, data, source, types) for delimiter in _DELIMITERS]
    layout = max(found, key=lambda one: (len(set(one.titles) & set(types)), len(one.titles)))
    if not layout.titles:
        raise TableError(f"{source}: is empty; a table begins with the names of its columns.")
    if wrong := [place for place, name in enumerate(layout.raw_names, 1) if not _is_utf8(name)]:
        raw = layout.raw_names[wrong[0] - 1].encode("utf-8", "surrogateescape")
        raise TableError(f"{source}:1: the name of column {wrong[0]}, {raw!r:.120}, is not text in UTF-8. {SAVE_AGAIN}")
    for title, count in Counter(filter(None, layout.titles)).items():
        if count > 1:
            written = [name for name, other in zip(layout.raw_names, layout.titles, strict=True) if other == title]
            raise TableError(
                f"{source}: the column {title!r} stands {count} times ({', '.join(map(repr, written))}), so which one "
                "counts is unknown. Rename or remove all but one."
            )
    return layout


def _layout_with(delimiter: str, data: bytes, source: str, types: Mapping[str, pa.DataType]) -> _Layout:
    records = _records(data, delimiter, False, source, strict=False)
    (_, names), (_, cells) = next(records, (1, [])), next(records, (1, []))
    cells = cells[1:]
    has_blanks = any(name.startswith(" ") for name in names) or (
        len(cells) > 1 and all(cell.startswith(" ") for cell in cells)
    )
    if has_blanks:
        _, names = next(_records(data, delimiter, True, source, strict=False))
    titles = [_title(name, types) for name in names]
    return _Layout(delimiter, has_blanks, names, titles, [types.get(title, pa.string()) for title in titles])


def _title(name: str, types: Mapping[str, pa.DataType]) -> str:
    title = name.strip()
    if re.match(_ESCAPED, title) and not re.match(_MERE_NUMBER, title):
        title = title[1:]
    return title.casefold() if title.casefold() in types else title


def _records(
    data: bytes, delimiter: str, has_blanks: bool, source: str, *, strict: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of each line that is not blank; bytes that are not UTF-8 are surrogates."""
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=has_blanks, strict=strict)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TableError(f"{source}:{line}: not a line of a CSV ({error}). Is a quote missing there?") from error
        if cells:
            yield line, cells


def _without_blanks(data: bytes, layout: _Layout, source: str) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=layout.delimiter).writerows(
        cells for _, cells in _records(data, layout.delimiter, True, source)
    )
    return out.getvalue().encode("utf-8", "surrogateescape")


def _try_parse(data: bytes, layout: _Layout, decimal_point: str, floats_as_ints: bool) -> pa.Table | None:
    """Return the table, or None if a cell has another type or a line has another number of cells."""
    kinds = [pa.float64() if floats_as_ints and kind == pa.int64() else kind for kind in layout.types]
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            parse_options=pa_csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict(zip(layout.raw_names, kinds, strict=True)),
                null_values=[""],  # a class may be called "null", and "NA" be a name
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                decimal_point=decimal_point,
            ),
        )
        if table.column_names != layout.raw_names:
            return None
        return table.cast(pa.schema(list(zip(layout.raw_names, layout.types, strict=True))))
    except pa.ArrowInvalid:
        return None


def _num_lines(data: bytes) -> int:
    end = b"\n" if b"\n" in data else b"\r"
    return data.count(end) + (not data.endswith(end))


def _check_cells(data: bytes, layout: _Layout, source: str) -> None:
    """Raise the error of the first cell that cannot be read; a slow second look, for its line and column."""
    records = _records(data, layout.delimiter, layout.has_blanks, source)
    next(records)
    for line, cells in records:
        if len(cells) != len(layout.titles):
            raise TableError(
                f"{source}:{line}: {len(cells)} cells where the header has {len(layout.titles)} "
                f"({', '.join(layout.titles)}): {layout.delimiter.join(cells)[:120]}"
            )
        for cell, title, kind in zip(cells, layout.titles, layout.types, strict=True):
            if not _is_utf8(cell):
                raw = cell.encode("utf-8", "surrogateescape")
                raise TableError(f"{source}:{line}: {title} is {raw!r:.120}, which is not text in UTF-8. {SAVE_AGAIN}")
            if cell.strip() and not pa.types.is_string(kind) and not _is_number(cell, layout, kind):
                expected = "a whole number" if pa.types.is_integer(kind) else "a number"
                raise TableError(f"{source}:{line}: {title} is {cell!r:.120}, but {expected} is expected.")


def _is_number(cell: str, layout: _Layout, kind: pa.DataType) -> bool:
    try:
        value = float(cell.replace(",", ".") if layout.delimiter == ";" else cell)
    except ValueError:
        return False
    return not pa.types.is_integer(kind) or value.is_integer()


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_empty_rows(table: pa.Table) -> pa.Table:
    """Leave out rows without any cell, as spreadsheets write below the last one."""
    if not table.num_columns or not table[0].null_count:
        return table
    keep = pc.is_valid(table[0])
    for column in table.columns[1:]:
        keep = pc.or_(keep, pc.is_valid(column))
    return table.filter(keep)


def _escaped(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Put an apostrophe before the cells that a spreadsheet, or :func:`_unescaped`, would take for something else."""
    is_risky = pc.match_substring_regex(column, _FORMULA)
    if not pc.any(is_risky).as_py():
        return column
    is_risky = pc.and_not(is_risky, pc.match_substring_regex(column, _MERE_NUMBER))
    return pc.if_else(is_risky, pc.binary_join_element_wise("'", column, ""), column)


def _unescaped(column: pa.ChunkedArray) -> pa.ChunkedArray:
    is_escaped = pc.match_substring_regex(column, _ESCAPED)
    if not pc.any(is_escaped).as_py():
        return column
    is_escaped = pc.and_not(is_escaped, pc.match_substring_regex(column, _MERE_NUMBER))
    return pc.if_else(is_escaped, pc.utf8_slice_codeunits(column, 1), column)
