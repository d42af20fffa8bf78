"""The feature table and its file.

Dimensions: N rows (windows), C features or embedding size of a modality.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.core.names import leaves_folder
from avssl.core.user_files import FileError, regular_file
from avssl.core.whole_file import whole_file
from avssl.models import TableVectors

Column = Literal["video", "audio", "joint"]
"""Vectors of a table."""
FORMAT_VERSION = 1
MAX_SIZE = 2**16
"""Largest vector size that is read."""
_KEY = b"avssl"  # in the metadata of the schema
_MAX_INFO_BYTES = 2**20
_MAX_EXPANSION = 64  # memory per file size: vectors hardly compress, repeated ids and paths do
_OTHER_BYTES = 32  # of a row in memory: two times, and two references to strings
_BLOCK_ROWS = 2**16  # rows checked or written at a time
_UNIT_TOLERANCE = 1e-3


class FeatureTableError(InputError):
    """An unusable feature table; the message names the file or the column, and the problem."""


@dataclass(frozen=True)
class TableInfo:
    """Description of the vectors of a table."""

    what: TableVectors
    """``"embeddings"`` after the heads, of unit length, in one space for video and audio; ``"moments"``, those of every
    moment of a window side by side, of unit length together; or ``"features"`` before the heads, in a space for
    each."""
    video_size: int
    """Size of the video vectors; 0 if the table holds none."""
    audio_size: int
    """Size of the audio vectors; 0 if the table holds none."""
    every_seconds: float
    """Time from one window to the next, > 0."""
    weights_hash: str
    """Hash of the model (:meth:`avssl.hub.pretrained.PretrainedModel.weights_hash`)."""
    checkpoint: str
    """Model that made it: a folder relative to the table's, or a hub id."""
    root: str
    """Folder of the files, relative to the table's, or a URL."""
    clip_list: str
    """Hash of the embedded rows (:meth:`avssl.core.manifest.Manifest.hash`)."""
    avssl_version: str
    """Version of avssl that made it."""
    config: dict[str, Any]
    """All settings of the run that made the model."""
    moments: int = 0
    """Moments of a window in a table of ``"moments"``; else 0."""
    joint_size: int = 0
    """Size of the joint embeddings of both modalities, or of the one that was embedded; 0 if the table holds none."""

    def __post_init__(self) -> None:
        kinds: dict[object, tuple[type, ...]] = {"int": (int,), "float": (int, float), "dict[str, Any]": (dict,)}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, kinds.get(field.type, (str,))) or isinstance(value, bool):
                raise FeatureTableError(f"{field.name} ({value!r:.80}) must be of type {field.type}.")
        if self.what not in get_args(TableVectors):
            raise FeatureTableError(f"what ({self.what!r:.80}) must be one of {get_args(TableVectors)}.")
        if not 0 <= self.moments <= MAX_SIZE or (self.what == "moments") != (self.moments > 0):
            raise FeatureTableError(f"moments ({self.moments}) must be above 0 in tables of moments, and 0 in others.")
        if self.moments and (self.video_size % self.moments or self.audio_size % self.moments):
            raise FeatureTableError(f"video_size and audio_size must be multiples of moments ({self.moments}).")
        if self.joint_size and self.what != "embeddings":
            raise FeatureTableError(f"joint_size ({self.joint_size}) must be 0 in tables of {self.what}.")
        for name in ("video_size", "audio_size", "joint_size"):
            if not 0 <= getattr(self, name) <= MAX_SIZE:
                raise FeatureTableError(f"{name} ({getattr(self, name)}) must lie in [0, {MAX_SIZE}].")
        if not self.modalities:
            raise FeatureTableError("video_size and audio_size are both 0: a table holds the vectors of one at least.")
        if not 0 < self.every_seconds < float("inf"):
            raise FeatureTableError(f"every_seconds ({self.every_seconds}) must be finite and greater than 0.")

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities whose vectors the table holds."""
        names: tuple[Modality, ...] = ("video", "audio")
        return tuple(name for name in names if self.size(name))

    def size(self, modality: str) -> int:
        """Return the size of a modality's vectors."""
        return {"video": self.video_size, "audio": self.audio_size, "joint": self.joint_size}[modality]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Vectors that the table holds: its modalities, and ``"joint"`` of a model with a joint head."""
        return (*self.modalities, "joint") if self.joint_size else self.modalities

    def to_json(self) -> str:
        """Serialize with the format version, for the metadata of the schema."""
        return json.dumps({"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: bytes | str) -> TableInfo:
        """Parse the text of :meth:`to_json`; raise FeatureTableError if it is something else or of another version."""
        if len(text) > _MAX_INFO_BYTES:
            raise FeatureTableError(f"its description has {len(text)} bytes; at most {_MAX_INFO_BYTES} are read.")
        try:
            content = json.loads(text)
            version = content.pop("format_version")
            if version != FORMAT_VERSION:
                raise FeatureTableError(f"format version {version!r:.20}; this avssl reads {FORMAT_VERSION}.")
            return cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, FeatureTableError):
                raise
            raise FeatureTableError(f"its metadata do not describe a feature table: {error}") from error


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """One row per window of each file.

    Raises:
        FeatureTableError: If lengths or sizes do not match, a time span is not valid, a path leaves the root, a vector
            is not finite, or an embedding is not of unit length.

    Example:
        >>> table = avssl.read_feature_table("features.parquet")
        >>> best = int((table.video @ table.audio[0]).argmax())  # the window whose frames fit this audio best
        >>> path, start_seconds = table.paths[best], float(table.start_seconds[best])
        >>> len(table.paths) == len(table.video) == len(table.audio), path.endswith(".mp4")
        (True, True)
    """

    info: TableInfo
    """Description of the vectors."""
    ids: np.ndarray
    """(N,) strings: manifest id of the row of each window."""
    paths: np.ndarray
    """(N,) strings: path of its file, relative to ``info.root``, as text of :mod:`avssl.core.names`."""
    start_seconds: np.ndarray
    """(N,) float64: presentation time at which the first of the window's two streams starts."""
    stop_seconds: np.ndarray
    """(N,) float64: presentation time at which the last of the two stops."""
    video: np.ndarray
    """(N, C) float32; C is 0 if the table holds no video."""
    audio: np.ndarray
    """(N, C) float32; C is 0 if the table holds no audio."""
    joint: np.ndarray = dataclasses.field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    """(N, C) float32; C is 0 if the model has no joint head."""

    def __post_init__(self) -> None:
        if self.joint.shape == (0, 0):
            object.__setattr__(self, "joint", np.empty((len(self.ids), 0), dtype=np.float32))
        lengths = {name: len(getattr(self, name)) for name in _COLUMNS}
        if len(set(lengths.values())) != 1:
            raise FeatureTableError(f"all columns must have one length, got {lengths}.")
        self._check_spans()
        for column in self.info.columns:
            _check_vectors(column, self.vectors(column), self.info)

    def __len__(self) -> int:
        return len(self.ids)

    def vectors(self, modality: str) -> np.ndarray:
        """Return the (N, C) vectors of ``"video"``, ``"audio"`` or ``"joint"``.

        Raises:
            FeatureTableError: If the table holds none.
        """
        if modality == "joint" and not self.info.joint_size:
            raise FeatureTableError(
                "the table holds no joint embeddings: a model with a joint head (objective.name joint) makes them, by "
                "avssl embed --what embeddings."
            )
        if modality not in self.info.columns:
            raise FeatureTableError(
                f"the table holds no {modality}, as it was made of {self.info.modalities[0]} alone (avssl embed "
                "--modality). Embed files that have both."
            )
        return {"video": self.video, "audio": self.audio, "joint": self.joint}[modality]

    def _check_spans(self) -> None:
        start, stop = self.start_seconds, self.stop_seconds
        bad = ~(np.isfinite(start) & np.isfinite(stop) & (stop > start))
        if bad.any():
            row = int(bad.argmax())
            raise FeatureTableError(f"row {row}: {start[row]} to {stop[row]} s is not a time span.")
        for name in ("ids", "paths"):
            if any(not isinstance(value, str) or not value for value in getattr(self, name)):
                raise FeatureTableError(f"{name} must be strings that are not empty.")
        for path in set(self.paths):
            if leaves_folder(path):
                raise FeatureTableError(f"path {path!r} must be relative and stay inside the root.")


_COLUMNS = ("ids", "paths", "start_seconds", "stop_seconds", "video", "audio", "joint")
"""Fields of a :class:`FeatureTable`; the columns of its file are named ``id`` and ``path``."""


def _check_vectors(modality: str, vectors: np.ndarray, info: TableInfo) -> None:
    size = info.size(modality)
    if vectors.ndim != 2 or vectors.shape[1] != size or vectors.dtype != np.float32:
        found = f"{vectors.shape} {vectors.dtype}"
        raise FeatureTableError(f"{modality} must be ({len(vectors)}, {size}) float32, got {found}.")
    for first in range(0, len(vectors), _BLOCK_ROWS):
        block = vectors[first : first + _BLOCK_ROWS]
        with np.errstate(over="ignore", invalid="ignore"):
            length = np.sqrt(np.einsum("nc,nc->n", block, block, dtype=np.float64))
        wrong = ~np.isfinite(length)
        what = "is not finite"
        if info.what != "features" and not wrong.any():
            wrong = np.abs(length - 1) > _UNIT_TOLERANCE
            what = "is an embedding, but its length is not 1"
        if wrong.any():
            row = first + int(wrong.argmax())
            raise FeatureTableError(f"row {row}: the {modality} vector {what}. Embed the files again.")


def write_feature_table(table: FeatureTable, path: Path | str) -> None:
    """Write a table as Parquet, through a temporary file, so that no reader sees half of it."""
    write_joined(table.info, [table], path)


def write_joined(info: TableInfo, tables: Iterable[FeatureTable], path: Path | str) -> None:
    """Write tables of one kind one after the other, with one in memory at a time.

    Raises:
        FeatureTableError: If the description of a table differs from ``info``.
    """
    schema = _schema(info)
    with (
        whole_file(path) as temporary,
        pq.ParquetWriter(
            temporary, schema, compression="zstd", use_dictionary=["id", "path"], write_page_checksum=True
        ) as writer,
    ):
        for table in tables:
            if table.info != info:
                raise FeatureTableError("tables of different models or settings cannot be joined.")
            writer.write_table(_to_arrow(table, schema), row_group_size=_BLOCK_ROWS)


def _schema(info: TableInfo) -> pa.Schema:
    fields = [("id", pa.string()), ("path", pa.string()), ("start_seconds", pa.float64())]
    fields += [("stop_seconds", pa.float64())]
    fields += [(name, pa.list_(pa.float32(), info.size(name))) for name in info.columns]
    return pa.schema(fields, metadata={_KEY: info.to_json()})


def _to_arrow(table: FeatureTable, schema: pa.Schema) -> pa.Table:
    columns = [pa.array(list(table.ids), pa.string()), pa.array(list(table.paths), pa.string())]
    columns += [pa.array(table.start_seconds), pa.array(table.stop_seconds)]
    for name in table.info.columns:
        flat = pa.array(np.ascontiguousarray(table.vectors(name)).reshape(-1))
        columns.append(pa.FixedSizeListArray.from_arrays(flat, table.info.size(name)))
    return pa.Table.from_arrays(columns, schema=schema)


def read_feature_table(path: Path | str) -> FeatureTable:
    """Read and check a table. An untrusted file cannot run code, nor need much more memory than its size.

    Args:
        path: A file from ``avssl embed`` or :func:`write_feature_table`.

    Raises:
        FeatureTableError: If there is no such file, it is not a feature table, or it fails the checks of
            :class:`FeatureTable`.

    Example:
        >>> table = read_feature_table("features.parquet")
        >>> table.video.shape == table.audio.shape == (len(table.ids), 8)
        True
    """
    try:
        path = regular_file(path)
    except FileNotFoundError as error:
        raise FeatureTableError(
            f"{path}: no such file. Make one with: avssl embed FOLDER --checkpoint RUN -o {path}"
        ) from error
    except FileError as error:
        raise FeatureTableError(str(error)) from error
    try:
        info = _read_info(pq.read_schema(path))
        # Repeated strings are read once: a million windows come from a few thousand files.
        with pq.ParquetFile(path, read_dictionary=["id", "path"], page_checksum_verification=True) as file:
            limit = _MAX_EXPANSION * path.stat().st_size
            _refuse_expanding(file, info, limit)
            return _read_rows(file, info, limit)
    except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError, IndexError) as error:
        raise FeatureTableError(f"{path}: not a readable Parquet file: {error}") from error
    except FeatureTableError as error:
        raise FeatureTableError(f"{path}: {error}") from error


def _read_info(schema: pa.Schema) -> TableInfo:
    text = (schema.metadata or {}).get(_KEY)
    if text is None:
        raise FeatureTableError("a Parquet file, but not a feature table: its schema has no avssl metadata.")
    info = TableInfo.from_json(text)
    for field in _schema(info):
        if (count := schema.names.count(field.name)) > 1:
            raise FeatureTableError(f"the column {field.name!r} stands {count} times.")
        place = schema.get_field_index(field.name)
        found = schema.field(place).type if place >= 0 else "missing"
        if found != field.type:
            raise FeatureTableError(f"column {field.name} must be {field.type}, but is {found}.")
    return info


def _refuse_expanding(file: pq.ParquetFile, info: TableInfo, limit_bytes: int) -> None:
    """Raise if the file claims more rows or text than its size allows; compression can claim any number."""
    metadata = file.metadata
    # Looking at single columns aborts the process if the header is damaged.
    sizes = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    unpacked = sum(map(abs, sizes))
    rows = metadata.num_rows * (4 * (info.video_size + info.audio_size + info.joint_size) + _OTHER_BYTES)
    if rows < 0 or max(rows, unpacked) > limit_bytes:
        raise FeatureTableError(
            f"{limit_bytes // _MAX_EXPANSION} bytes cannot hold {metadata.num_rows} rows with {unpacked} bytes of "
            "columns: the file is damaged."
        )


class _Texts:
    """Keeps one string of all that are equal, because a million windows come from a few thousand files."""

    def __init__(self, limit_bytes: int) -> None:
        self._known: dict[str, str] = {}
        self._left = limit_bytes

    def of(self, column: pa.DictionaryArray) -> np.ndarray:
        """Return the strings of a column; raise FeatureTableError if those of the file outgrow the limit."""
        self._left -= column.dictionary.nbytes
        if self._left < 0:
            raise FeatureTableError("its ids and paths are larger than a file of this size can hold: it is damaged.")
        words = [self._known.setdefault(word, word) for word in column.dictionary.to_pylist()]
        return np.asarray(words, dtype=object)[column.indices.to_numpy()]


def _read_rows(file: pq.ParquetFile, info: TableInfo, limit_bytes: int) -> FeatureTable:
    """Read row groups into arrays of the final size, so that nothing is in memory twice."""
    count, strings = file.metadata.num_rows, _Texts(limit_bytes)
    texts = {name: np.empty(count, dtype=object) for name in ("id", "path")}
    times = {name: np.empty(count, dtype=np.float64) for name in ("start_seconds", "stop_seconds")}
    vectors = {name: np.empty((count, info.size(name)), dtype=np.float32) for name in ("video", "audio", "joint")}
    first = 0
    for batch in _batches(file, [*texts, *times, *info.columns]):
        place = slice(first, first + len(batch))
        if place.stop > count:
            break
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if column.null_count or (name in vectors and column.flatten().null_count):
                raise FeatureTableError(f"column {name} has empty cells.")
            if name in vectors:
                vectors[name][place] = column.flatten().to_numpy().reshape(len(batch), -1)
            elif name in times:
                times[name][place] = column.to_numpy()
            else:
                texts[name][place] = strings.of(column)
        first = place.stop
    if first != count:
        raise FeatureTableError(f"the header has {count} rows, but the file holds another number.")
    return FeatureTable(info, *texts.values(), *times.values(), *vectors.values())


def _batches(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield blocks of rows. One row group is open at a time: an iterator over all of them would hold the whole file."""
    for group in range(file.num_row_groups):
        yield from file.iter_batches(_BLOCK_ROWS, row_groups=[group], columns=columns)
