"""Keys of the rows of a manifest: what identifies an id, a file, and the list of all ids.

They follow from the ids and paths, which takes minutes for a hundred million rows. So the Arrow file of a run holds
them, as columns and a note whose names begin with ``avssl.``, and a reader compares some rows and the sum of the keys
with the note. Those in other files are not used: a program may have changed the ids beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avssl.core.errors import InputError
from avssl.core.text_keys import text_key_array

OWN = "avssl."
"""First letters of the columns that are no columns of the manifest."""
_ID_KEY, _FILE, _NOTE = f"{OWN}id_key", f"{OWN}file_number", b"avssl.ids"
_COMPARED_ROWS = 1000
_BLOCK_ROWS = 2**20


class StaleKeysError(InputError):
    """Stored keys that are not those of the ids and paths beside them."""


class RowKeys:
    """Keys of N rows, computed when they are first needed unless a file holds them.

    Args:
        ids: (N,) strings.
        paths: (N,) strings, the names of the rows' files.
        stored: Columns of a file.
        note: Note of a file.

    Raises:
        StaleKeysError: If what is stored belongs to other ids or paths.
    """

    def __init__(
        self,
        ids: pa.ChunkedArray,
        paths: pa.ChunkedArray,
        stored: Mapping[str, pa.ChunkedArray] | None = None,
        note: bytes = b"{}",
    ) -> None:
        self._texts, self._paths = ids, paths
        self._stored = stored if stored and {_ID_KEY, _FILE} <= set(stored) else {}
        self._ids: np.ndarray | None = None
        self._files: np.ndarray | None = None
        self._hash: str | None = None
        if self._stored:
            self._compare()
            about = json.loads(note)
            if (about.get("rows"), about.get("key_sum")) == (len(ids), pc.sum(self._stored[_ID_KEY]).as_py()):
                self._hash = str(about["hash"])

    @property
    def are_checked(self) -> bool:
        """True if a file holds the keys of these very ids, which were found to be unique when it was written."""
        return self._hash is not None

    @property
    def are_known(self) -> bool:
        """True if keys need not be computed."""
        return self._ids is not None or bool(self._stored)

    def ids(self) -> np.ndarray:
        """Return (N,) int64: the :func:`avssl.core.draws.text_key` of each id."""
        if self._ids is None:
            blocks = map(text_key_array, _blocks(self._texts))
            stored = self._stored.get(_ID_KEY)
            self._ids = np.concatenate([np.empty(0, np.int64), *blocks]) if stored is None else _array(stored)
        return self._ids

    def files(self) -> np.ndarray:
        """Return (N,) int64: equal for rows of the same file, numbered as they come."""
        if self._files is None:
            parts = [part.indices.fill_null(-1) for part in self._paths.dictionary_encode().chunks]
            stored = self._stored.get(_FILE)
            self._files = _array(pa.chunked_array(parts, pa.int32()) if stored is None else stored)
        return self._files

    def files_of(self, rows: Sequence[int]) -> np.ndarray:
        """Return :meth:`files` of some rows, without those of all if a file holds them."""
        stored = self._stored.get(_FILE)
        if stored is None or self._files is not None:
            return self.files()[np.asarray(rows, dtype=np.int64)]
        return np.array([stored[row].as_py() for row in rows], dtype=np.int64)

    def hash(self) -> str:
        """Return 16 hex digits that identify the set of ids."""
        if self._hash is None:  # takes a second for millions of ids, and every checkpoint stores it
            ids = self._texts.cast(pa.large_string()).combine_chunks()  # pieces would be joined again for each block
            digest, in_order = hashlib.sha256(), pc.sort_indices(ids)
            for first in range(0, len(in_order), _BLOCK_ROWS):
                texts = ids.take(in_order.slice(first, _BLOCK_ROWS)).to_pylist()
                digest.update("".join(f"{text}\0" for text in texts).encode())
            self._hash = digest.hexdigest()[:16]
        return self._hash

    def repeated(self) -> list[str]:
        """Return the ids that stand more than once."""
        keys = np.sort(self.ids())
        twice = keys[1:][keys[1:] == keys[:-1]]
        if not len(twice):
            return []
        counts = pc.value_counts(self._texts.filter(pa.array(np.isin(self.ids(), twice))))
        return [each["values"].as_py() for each in counts if each["counts"].as_py() > 1]

    def take(self, rows: np.ndarray, ids: pa.ChunkedArray, paths: pa.ChunkedArray) -> RowKeys:
        """Return the keys of some rows, whose ids and paths are given too."""
        keys = RowKeys(ids, paths)
        keys._ids = self.ids()[rows] if self.are_known else None
        return keys

    def stored_with(self, table: pa.Table) -> pa.Table:
        """Return a table with these keys, to be written."""
        table = table.append_column(_ID_KEY, pa.array(self.ids())).append_column(_FILE, pa.array(self.files()))
        note = {"rows": len(table), "key_sum": int(self.ids().sum()), "hash": self.hash()}
        return table.replace_schema_metadata({_NOTE: json.dumps(note).encode()})

    def _compare(self) -> None:
        """Compare evenly spaced rows with what is stored for them."""
        last = len(self._texts) - 1
        ids, keys, paths, files = self._texts, self._stored[_ID_KEY], self._paths, self._stored[_FILE]
        for row in np.unique(np.linspace(0, last, _COMPARED_ROWS, dtype=np.int64)).tolist() if last >= 0 else []:
            # One cell at a time: to take several would copy the whole column first.
            is_same_path, is_same_file = (column[row] == column[min(row + 1, last)] for column in (paths, files))
            is_of_id = keys[row].as_py() == int(text_key_array([ids[row].as_py()])[0])
            if not is_of_id or (paths[row].is_valid and is_same_path != is_same_file):
                raise StaleKeysError(
                    f"the columns {_ID_KEY!r} and {_FILE!r} do not belong to the id and path of {ids[row].as_py()!r}, "
                    "which were changed after they were written. Remove both columns."
                )


def split_keys(table: pa.Table) -> tuple[pa.Table, dict[str, pa.ChunkedArray], bytes]:
    """Return the table without stored keys, and the columns and the note of :class:`RowKeys`."""
    note = (table.schema.metadata or {}).get(_NOTE, b"{}")
    stored = {name: table[name] for name in table.column_names if name.startswith(OWN)}
    if stored or table.schema.metadata:
        table = table.drop_columns(list(stored)).replace_schema_metadata(None)
    return table, stored, note


def _blocks(column: pa.ChunkedArray) -> Iterator[list[str]]:
    for first in range(0, len(column), _BLOCK_ROWS):
        yield column.slice(first, _BLOCK_ROWS).to_pylist()


def _array(column: pa.ChunkedArray) -> np.ndarray:
    """Return a copy that may be written, as tensors share its memory."""
    return np.array(column.to_numpy(), dtype=np.int64)
