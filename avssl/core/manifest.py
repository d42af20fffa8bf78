"""The manifest: a table with one row for each clip source.

A manifest is a CSV file, or for very many rows a Parquet file, next to (or above) the media files it names. Required
columns are ``id`` and ``path``; the other known columns may be missing or empty; unknown columns are kept, and are
usable as subgroups. It is held as columns (pyarrow), never as Python objects. A run whose source is a Parquet file
keeps its rows in an Arrow file, which all processes of a machine map into their memory.

A path is the name of a file in any script; one that is not UTF-8 stands there as :mod:`avssl.core.names` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avssl.core import column_files
from avssl.core.errors import InputError
from avssl.core.names import leaves_folder, name_from_text
from avssl.core.row_keys import RowKeys, split_keys
from avssl.core.table_files import is_columnar, is_url, read_table
from avssl.core.tables import TableError, write_table

COLUMNS: dict[str, pa.DataType] = {
    "id": pa.string(),  # stable and unique: relative path, plus "#start-stop" where a file holds several
    "path": pa.string(),  # relative to the manifest's root
    "duration_seconds": pa.float64(),  # of the span start_seconds..stop_seconds
    "video_fps": pa.float64(),
    "width": pa.int64(),  # upright, in square pixels
    "height": pa.int64(),
    "audio_sample_rate_hz": pa.int64(),
    "start_seconds": pa.float64(),  # presentation times in the file; [start, stop)
    "stop_seconds": pa.float64(),
    "file_bytes": pa.int64(),  # of the media file when its row was made: avssl.data.file_stamps
    "file_hash": pa.string(),  # of its content: avssl.data.content
    "file_date_ns": pa.int64(),  # of its last change before a run, in the run's own manifest
    "label": pa.string(),  # several separated by "|"
    "split": pa.string(),
    "fold": pa.string(),
    "truth": pa.string(),  # relative path of boxes, masks or events
    "audio_path": pa.string(),  # relative path of the audio, where path has none or is a still image
    "limits": pa.string(),  # of media files, where they are not the defaults: avssl.media.limits
    "shard_offset": pa.int64(),  # in a prepared corpus, whose path is a shard: where the clip begins in it, in bytes
    "shard_header_bytes": pa.int64(),  # and the length of its index
    "member_offset": pa.int64(),  # where path is an archive (avssl.data.packed): where the media file begins in it
    "member_bytes": pa.int64(),  # and its size
    "audio_member_offset": pa.int64(),  # the same for the audio, where it is another file of the archive
    "audio_member_bytes": pa.int64(),
}
"""Known columns and their types. Others are read as strings."""

_SUSPICIOUS = r"^/|^\\|:|(^|[/\\])\.\.([/\\]|$)"
"""Paths that may leave their folder, on some system; :func:`avssl.core.names.leaves_folder` decides."""


_KEYED = {"id", "path", "source_path"}
_PATHS = ("path", "truth", "audio_path", "mixed_audio_path")


class ManifestError(InputError):
    """A manifest that cannot be used; the message names the file, line or column."""


class Manifest:
    """Rows of clip sources over a root folder.

    Args:
        table: The columns; must hold unique, non-empty ``id`` and ``path``.
        root: Folder that ``path``, ``truth`` and ``audio_path`` are relative to; for a prepared corpus, also a URL of
            an object store.

    Raises:
        ManifestError: If a required column is missing, an id is empty or appears twice, or a path leaves ``root``.

    Example:
        >>> manifest = avssl.read_manifest("corpus/manifest.csv")
        >>> len(manifest), str(manifest.file(0)), manifest["split"][0]
        (8, 'corpus/train/000000.mp4', 'train')
    """

    def __init__(self, table: pa.Table, root: Path | str) -> None:
        table = split_keys(table)[0]  # another program may have changed ids and paths since: keys are computed
        if twice := [name for name in set(table.column_names) if table.column_names.count(name) > 1]:
            raise ManifestError(f"the column {min(twice)!r} stands more than once; rename or remove all but one.")
        for name in ("id", "path"):
            if name not in table.column_names:
                raise ManifestError(f"a manifest needs the column {name!r}, got {table.column_names}.")
            empty = pc.or_kleene(pc.is_null(table[name]), pc.equal(table[name], ""))
            if pc.any(empty).as_py():
                raise ManifestError(f"row {pc.index(empty, True).as_py()}: {name} is empty.")
        self._hold(table, root, RowKeys(*_ids_and_files(table)))
        if twice := self.keys.repeated():
            raise ManifestError(f"{len(twice)} ids appear more than once, the first is {twice[0]!r}.")
        for name in _PATHS:
            self._check_inside(name)

    def _hold(self, table: pa.Table, root: Path | str, keys: RowKeys) -> None:
        self.table = table
        self._root = str(root)
        self.keys = keys
        """Keys of the rows."""

    @classmethod
    def _of_checked(cls, table: pa.Table, root: Path | str, keys: RowKeys) -> Manifest:
        """Make a manifest of rows that were checked before."""
        manifest = cls.__new__(cls)
        manifest._hold(table, root, keys)
        return manifest

    def _check_inside(self, name: str) -> None:
        if name not in self.table.column_names:
            return
        for paths in filter(_may_leave, self.table[name].chunks):
            for value in paths.filter(pc.match_substring_regex(paths, _SUSPICIOUS)).to_pylist():
                self._refuse_leaving(name, value)

    def _refuse_leaving(self, name: str, value: str) -> None:
        if leaves_folder(value):
            raise ManifestError(f"{name} {value!r} must be relative and stay inside {self._root}.")

    @property
    def root(self) -> Path:
        """Folder that paths are relative to.

        Raises:
            ManifestError: If it is a URL: only the clips of a prepared corpus are read from an object store.
        """
        if is_url(self._root):
            raise ManifestError(
                f"{self._root}: only a prepared corpus is read from an object store; see avssl prepare."
            )
        return Path(self._root)

    @property
    def place(self) -> str:
        """Root as text: a path, or a URL."""
        return self._root

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any]], root: Path | str) -> Manifest:
        """Make a manifest from lists; known columns get their types, and paths are text of :mod:`avssl.core.names`."""
        arrays = {n: pa.array(list(v), type=COLUMNS.get(n, pa.string())) for n, v in columns.items()}
        return cls(pa.table(arrays), root)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __contains__(self, name: str) -> bool:
        return self.table.schema.get_field_index(name) >= 0

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column as a NumPy array; empty cells are NaN, or None in columns of strings."""
        if name not in self:
            raise ManifestError(f"no column {name!r} in this manifest; it has {', '.join(self.table.column_names)}.")
        column = self.table[name]
        if pa.types.is_string(column.type):
            return np.asarray(column.to_pylist(), dtype=object)
        return column.to_numpy()

    def value(self, row: int, name: str) -> Any:
        """Return one cell, or None if it is empty or the column is missing."""
        return self.table[name][row].as_py() if name in self else None

    def file(self, row: int) -> Path:
        """Return the media file of a row."""
        return self._place(self.table["path"][row].as_py())

    def location(self, row: int) -> str:
        """Return the media file of a row as text: a path, or a URL if the root is one."""
        text = self.table["path"][row].as_py()
        self._refuse_leaving("path", text)
        return f"{self._root}/{text if is_url(self._root) else name_from_text(text)}"

    def name(self, row: int) -> str:
        """Return the media of a row for messages: its file, with the row's id if that lies inside an archive."""
        if self.value(row, "member_bytes") is None:
            return self.location(row)
        return f"{self.location(row)}: {self.value(row, 'id')}"

    @property
    def is_packed(self) -> bool:
        """True if rows lie inside of shards or archives, so that their files tell nothing."""
        return "shard_header_bytes" in self or "member_bytes" in self

    @property
    def name_columns(self) -> tuple[str, ...]:
        """Columns that name a row's file, the first filled one; of packed rows those of the source."""
        return ("source_path", "id") if self.is_packed else ("path",)

    def require_files(self, work: str) -> None:
        """Raise ManifestError if rows lie inside of shards or archives.

        Args:
            work: What opens whole files, such as ``"avssl sync-eval"``.
        """
        if self.is_packed:
            raise ManifestError(
                f"{self.place}: the rows lie inside of archives or of a prepared copy, and {work} opens media files as "
                "a whole. Name a manifest of the files themselves (unpack the archives first)."
            )

    def truth_file(self, row: int) -> Path | None:
        """Return the ground-truth file of a row, or None."""
        value = self.value(row, "truth")
        return self._place(value) if value else None

    def sound_file(self, row: int) -> Path:
        """Return the file with the audio of a row: ``audio_path``, or the media file itself."""
        value = self.value(row, "audio_path")
        return self._place(value) if value else self.file(row)

    def _place(self, text: str) -> Path:
        self._refuse_leaving("path", text)
        return self.root / name_from_text(text)

    def inside(self, relative: str) -> Path:
        """Return the path of a file that another file of this corpus names, such as a mask.

        Raises:
            ManifestError: If the path leaves the root.
        """
        return self._place(relative)

    def select(self, keep: np.ndarray) -> Manifest:
        """Return the rows where a boolean mask is True, or the rows of an integer index, in that order."""
        keep = np.asarray(keep)
        rows = keep if keep.dtype == bool else keep.astype(np.int64)
        table = self.table.filter(pa.array(rows)) if rows.dtype == bool else _taken(self.table, rows)
        if rows.dtype != bool and len(np.unique(rows)) < len(rows):
            return Manifest(table, self._root)  # raises the error that names the id
        return self._of_checked(table, self._root, self.keys.take(rows, *_ids_and_files(table)))

    def with_columns(self, columns: Mapping[str, pa.Array]) -> Manifest:
        """Return the rows with some columns replaced or added."""
        table = self.table
        for name, values in columns.items():
            place = table.schema.get_field_index(name)
            table = table.append_column(name, values) if place < 0 else table.set_column(place, name, values)
        if set(columns) & {*_KEYED, *_PATHS}:
            return Manifest(table, self._root)
        return self._of_checked(table, self._root, self.keys)

    def where(self, **equal: str) -> Manifest:
        """Return the rows whose columns equal the given strings: ``manifest.where(split="test")``."""
        keep = np.ones(len(self), dtype=bool)
        for name, value in equal.items():
            keep &= self[name] == value
        return self.select(keep)

    def hash(self) -> str:
        """Return 16 hex digits that identify the set of ids."""
        return self.keys.hash()

    def write(self, path: Path | str) -> None:
        """Write a CSV, or a Parquet file if its name ends in ``.parquet``.

        Paths are relative to its folder when it is read back, so that must be this manifest's root.

        Raises:
            ManifestError: If ``path`` is outside the root.
        """
        path = Path(path)
        if path.resolve().parent != self.root.resolve():
            raise ManifestError(
                f"{path}: paths are relative to {self.root}; write the manifest there, "
                'or read it with read_manifest(path, root="...").'
            )
        if is_columnar(path):
            column_files.write_parquet(self.table, path)
        else:
            write_table(self.table, path)

    def write_mapped(self, path: Path | str) -> None:
        """Write the Arrow file of a run, anywhere; its root must be named when it is read back."""
        column_files.write_arrow(self.keys.stored_with(self.table), path)


def read_manifest(path: Path | str, root: Path | str | None = None, *, mapped: bool = False) -> Manifest:
    """Read a manifest: a CSV or Parquet file.

    Args:
        path: The file; its first bytes tell which it is.
        root: Folder that paths are relative to; default: the folder of the file.
        mapped: Take the Arrow file of a run too, whose content is trusted.

    Raises:
        ManifestError: If the file is missing, is no such table, or fails the checks of :class:`Manifest`.

    Example:
        >>> manifest = read_manifest("corpus/manifest.csv")
        >>> len(manifest), manifest["split"][0]
        (8, 'train')
        >>> few = manifest.select(np.arange(len(manifest)) < 4)
    """
    if not is_url(path) and Path(path).is_dir():
        raise ManifestError(
            f"{path}: is a folder, and a manifest (CSV or Parquet) is needed. Make one with: "
            f"avssl index {path} -o {Path(path) / 'manifest.csv'}"
        )
    try:
        table, kind = read_table(path, COLUMNS)
    except TableError as error:
        raise ManifestError(str(error)) from error
    except FileNotFoundError as error:
        make = f"Make one with: avssl index FOLDER -o {path}"
        if str(path).startswith("hf:"):
            make = "Save the dataset of the hub with save_to_disk(FOLDER), and make one with: avssl index FOLDER"
        raise ManifestError(f"{path}: no such manifest. {make}") from error
    root = str(path).rpartition("/")[0] or "." if root is None else root
    try:
        if kind != "arrow":
            return Manifest(table, root)
        if not mapped:
            raise ManifestError("is an Arrow file, which is read only where a run wrote it. Use Parquet, or CSV.")
        return _mapped(table, root)
    except InputError as error:
        raise ManifestError(f"{path}: {error}") from error


def _taken(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Return some rows of a table. Arrow would first copy all text, which may be more than it can hold in one piece."""
    if not len(rows):
        return table.slice(0, 0)
    first, stop = int(rows.min()), int(rows.max()) + 1
    if first < 0 or stop > len(table) or stop - first <= 4 * len(rows):
        return table.slice(max(0, first), stop - first).take(pa.array(rows - max(0, first)))
    chosen, places = np.unique(rows, return_inverse=True)
    keep = np.zeros(stop - first, dtype=bool)
    keep[chosen - first] = True
    return table.slice(first, stop - first).filter(pa.array(keep)).take(pa.array(places))


def _mapped(table: pa.Table, root: Path | str) -> Manifest:
    """Return the rows of a run's own file, checked when they were written; to check them again would read all of it."""
    table, stored, note = split_keys(table)
    if not {"id", "path"} <= set(table.column_names):
        raise ManifestError(f"is no Arrow file of a run, as it has the columns {table.column_names}. Use Parquet.")
    keys = RowKeys(*_ids_and_files(table), stored, note)
    if not keys.are_checked:
        raise ManifestError("is no Arrow file of a run, as it holds no keys of its ids. Use Parquet, or CSV.")
    return Manifest._of_checked(table, root, keys)


def _ids_and_files(table: pa.Table) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return the ids, and the names of the files; in a prepared corpus, of the sources."""
    return table["id"], table["source_path" if "source_path" in table.column_names else "path"]


def _may_leave(paths: pa.Array) -> bool:
    """Return False if no path can leave its folder: a look at all bytes at once, many times faster than one at each."""
    text = paths.buffers()[2]
    if text is None or not len(paths):
        return False
    data = text.to_pybytes()
    return any(part in data for part in (b"..", b":", b"\\")) or bool(pc.any(pc.starts_with(paths, "/")).as_py())
