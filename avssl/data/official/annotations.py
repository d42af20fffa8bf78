"""Read the annotation files that datasets publish.

They come from the internet: a deviation from the published format raises a
:class:`~avssl.core.manifest.ManifestError` that names the file, the line and the column, XML may declare
no document type (so no entities), and nothing is unpickled.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

from avssl.core import data_files
from avssl.core.manifest import ManifestError
from avssl.core.tables import MAX_TABLE_BYTES, SAVE_AGAIN, TableError, encoding_of
from avssl.core.user_files import FileError, open_regular, read_bytes

T = TypeVar("T")
_MAX_XML_BYTES = 2**24


def look_for_annotation(folders: Sequence[Path], *names: str) -> Path | None:
    """Return the first of the files that exists; folders and names are tried in order."""
    return next((folder / name for folder in folders for name in names if _is_no_folder(folder / name)), None)


def _is_no_folder(path: Path) -> bool:
    return path.exists() and not path.is_dir()


def find_annotation(folders: Sequence[Path], *names: str, source: str) -> Path:
    """Return the first of the files that exists; ``source`` tells where to get it.

    Raises:
        ManifestError: If none exists.
    """
    if found := look_for_annotation(folders, *names):
        return found
    places = ", ".join(str(folder) for folder in folders)
    raise ManifestError(
        f"{' or '.join(names)} is not in {places}. Get it from {source}, or name its folder with --annotations."
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One record of a text table, with its line number."""

    path: Path
    number: int
    """Line number in the file, from 1."""
    cells: Mapping[str, str]
    """Cells by column."""

    def __getitem__(self, column: str) -> str:
        """Return a cell that must not be empty."""
        if not self.cells[column]:
            raise self.wrong(column, "a value")
        return self.cells[column]

    def seconds(self, column: str) -> float:
        """Return a cell that holds a time, >= 0."""
        try:
            value = float(self.cells[column])
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise self.wrong(column, "a number of seconds")
        return value

    def one_of(self, column: str, choices: Mapping[str, str]) -> str:
        """Return the choice for a cell."""
        if self.cells[column] not in choices:
            raise self.wrong(column, " or ".join(map(repr, choices)))
        return choices[self.cells[column]]

    def wrong(self, column: str, expected: str) -> ManifestError:
        """Return the error for a cell that deviates from the published format."""
        return ManifestError(f"{self.path}:{self.number}: {column} is {self.cells[column]!r}, expected {expected}.")


def read_table(
    path: Path,
    columns: Sequence[str],
    *,
    header: bool = True,
    delimiter: str | None = ",",
    comment: str | None = None,
    content: bytes | None = None,
) -> Iterator[Line]:
    """Yield the records of a text table; quotes are parsed and spaces around cells dropped.

    Args:
        path: UTF-8 text.
        columns: With a header, required columns, in any order. Without one, the names of all columns, in order.
        header: True if the first record names the columns.
        delimiter: Delimiter of cells; None for any white space.
        comment: Prefix of lines to skip.
        content: Content of a table that lies in an archive, whose ``path`` is only named.

    Raises:
        ManifestError: If the file is not such a table, or has no records.
    """
    names = None if header else list(columns)
    number_of_records = 0
    for number, cells in _records(path, delimiter, content):
        if comment is not None and cells[0].startswith(comment):
            continue
        if names is None:
            names = cells
            if twice := [name for name in names if name and names.count(name) > 1]:
                raise ManifestError(f"{path}:{number}: the column {twice[0]!r} stands more than once.")
            if absent := [name for name in columns if name not in names]:
                raise ManifestError(
                    f"{path}:{number}: no column {', '.join(map(repr, absent))}; it has {', '.join(names)}."
                )
            continue
        if len(cells) != len(names):
            raise ManifestError(
                f"{path}:{number}: {len(cells)} columns where {len(names)} ({', '.join(names)}) are expected: "
                f"{(delimiter or ' ').join(cells)[:120]}"
            )
        number_of_records += 1
        yield Line(path, number, dict(zip(names, cells, strict=True)))
    if not number_of_records:
        raise ManifestError(f"{path}: no records.")


def _records(path: Path, delimiter: str | None, content: bytes | None) -> Iterator[tuple[int, list[str]]]:
    """Yield the line numbers and cells of the lines that are not blank."""
    try:
        opened = open_regular(path, MAX_TABLE_BYTES) if content is None else io.BufferedReader(io.BytesIO(content))
        with opened as binary:
            file = io.TextIOWrapper(binary, encoding=encoding_of(binary.peek(4096), str(path)), newline="")
            if delimiter is None:
                for number, text in enumerate(file, 1):
                    if cells := text.split():
                        yield number, cells
                return
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield reader.line_num, cells
    except (TableError, FileError) as error:
        raise ManifestError(str(error)) from error
    except UnicodeError as error:
        line = _line_of(error, path, content)
        raise ManifestError(f"{path}:{line}: not a text table in UTF-8 ({error}). {SAVE_AGAIN}") from error
    except csv.Error as error:
        raise ManifestError(f"{path}: not a text table ({error}).") from error


def _line_of(error: UnicodeError, path: Path, content: bytes | None) -> int:
    """Return the number of the first line with bytes that are no text."""
    bad = error.object[error.start : error.end] if isinstance(error, UnicodeDecodeError) else b""
    with open_regular(path) if content is None else io.BytesIO(content) as file:
        return next((number for number, line in enumerate(file, 1) if bad in line), 1)


def read_json(path: Path, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """Read a JSON file that holds a list or an object; raise ManifestError if it holds something else."""
    try:
        value = data_files.read_json(path)
    except FileError as error:
        raise ManifestError(str(error)) from error
    if not isinstance(value, kind) or not value:
        raise ManifestError(f"{path}: a {kind.__name__} with entries is expected, got {type(value).__name__}.")
    return value


def entry_value(path: Path, number: int, entry: Any, name: str, kind: type[T]) -> T:
    """Return a value of an entry in a JSON list of objects; raise ManifestError if there is no value of this type."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kind):
        raise ManifestError(f"{path}: entry {number}: {name} is {value!r}, expected a {kind.__name__}.")
    return value


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds the tree; raises an error for a document type, the only part that can define entities."""

    def doctype(self, name: str, pubid: str, system: str) -> None:
        raise ManifestError("a document type (DOCTYPE) is not allowed.")


def read_xml(path: Path) -> ElementTree.Element:
    """Return the root element of an XML file; raise ManifestError if it is not XML, or declares a document type."""
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        parser.feed(read_bytes(path, _MAX_XML_BYTES))
        root: ElementTree.Element = parser.close()
    except FileError as error:
        raise ManifestError(str(error)) from error
    except (ElementTree.ParseError, ManifestError, ValueError, LookupError) as error:
        raise ManifestError(f"{path}: {error}") from error
    return root
