"""Hugging Face datasets with a Video or Audio column: folders of ``save_to_disk``, and what ``load_dataset`` keeps.

Both are Arrow files, which hold the bytes of a row's media in one piece; a row of the manifest tells where they lie in
them. Only the columns' layout is read here, no media, and nothing is unpickled. The features, such as the names of a
ClassLabel, are JSON in the schema of the files.

Source: https://huggingface.co/docs/datasets (5.2), and the source of Dataset.save_to_disk and of the features.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from avssl.core.data_files import read_json
from avssl.core.errors import RunError
from avssl.core.lazy import load
from avssl.core.manifest import ManifestError
from avssl.core.names import name_from_text, name_to_text
from avssl.core.user_files import FileError, regular_file
from avssl.data.packed.samples import PackedRows, Place, Samples, sample_cells

PREFIX = "hf:"
"""Prefix of a dataset's name: ``hf:OWNER/NAME`` or ``hf:OWNER/NAME:CONFIG``."""
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", flags=re.ASCII)
_MAX_ERROR_CHARACTERS = 1000
_MAX_JSON_BYTES = 1 << 24
_MEDIA = ("Video", "Image", "Audio")


@dataclass(frozen=True)
class _Files:
    """The Arrow files of a dataset."""

    samples: Samples
    """Takes the rows."""
    named_in: Sequence[str] = ()
    """Folders in which files that the dataset only names may lie."""

    def read(self, files: Iterable[tuple[str, str]], split: str | None) -> None:
        """Add the rows of Arrow files, each with its path relative to the root.

        Raises:
            ManifestError: If one is no such file, or has no Video or Audio column.
        """
        first = 0
        for file, relative in files:
            try:
                first += self._read_file(file, relative, split, first)
            except FileError as error:
                raise ManifestError(str(error)) from error
            except pa.ArrowInvalid as error:
                raise ManifestError(
                    f"{file}: no Arrow stream, as Hugging Face datasets writes it ({error})."
                ) from error

    def _read_file(self, file: str, relative: str, split: str | None, first: int) -> int:
        """Add the rows of an Arrow file; return their number, with those that cannot be used."""
        content = pa.memory_map(str(regular_file(file))).read_buffer()
        reader = pa.ipc.open_stream(pa.BufferReader(content))
        features = _features(file, reader.schema)
        media = _media_columns(self.samples.name or file, features)
        others = [name for name in features if name not in media.values()]
        count = 0
        for batch in reader:
            places = {kind: self._places(file, content, batch.column(name)) for kind, name in media.items()}
            cells = {name: _values(batch.column(name), features[name]) for name in others}
            if "__key__" in cells:
                cells = _tar_cells(batch, cells)
            for row in range(len(batch)):
                name = "/".join(filter(None, (split, f"{first + count + row:09d}")))
                about = {column: values[row] for column, values in cells.items()} | ({"split": split} if split else {})
                self._add(name, relative, {kind: of[row] for kind, of in places.items()}, about)
            count += len(batch)
        return count

    def _add(self, name: str, path: str, places: Mapping[str, Place | None], about: Mapping[str, Any]) -> None:
        held = {kind: place for kind, place in places.items() if place is not None}
        shown = held.get("Video") or held.get("Image") or held.get("Audio")
        if shown is None or held.keys() == {"Image"}:
            found = f"the columns {' and '.join(places)} hold no bytes of a video or audio"
            advice = "Save the dataset with save_to_disk, which embeds the files that it names."
            if self.named_in:
                found += ", and name no file in the caches of Hugging Face"
                cached = Path("/", name_from_text(path)).parent
                advice = f"Its author embeds files with push_to_hub. If a cache was cleared, remove {cached} too."
            self.samples.fail(name, path, "not_media", f"{found}.", advice)
            return
        audio = held.get("Audio") if held.keys() & {"Video", "Image"} else None
        try:
            self.samples.add(name, path, shown, audio, **sample_cells(about))
        except ValueError as error:
            self.samples.fail(name, path, "unreadable", f"{error}.", "Correct the row, or leave it out.")

    def _places(self, file: str, content: pa.Buffer, column: pa.Array) -> list[Place | None]:
        """Return where the media of each row of a column lie."""
        embedded = _embedded(file, content, column)
        if not self.named_in or column.type.get_field_index("path") < 0:
            return list(embedded)
        paths = column.field("path").to_pylist()
        return [place or self._named(path) for place, path in zip(embedded, paths, strict=True)]

    def _named(self, path: str | None) -> str | None:
        """Return the path of a file that a row names, if it exists and lies in one of the folders."""
        real = os.path.realpath(path) if path and "\0" not in path and os.path.isabs(path) else ""
        inside = any(os.path.commonpath([real, folder]) == folder for folder in self.named_in if real)
        return name_to_text(real.lstrip("/")) if inside and os.path.isfile(real) else None


def is_saved(folder: Path | str) -> bool:
    """Return True for a folder that ``save_to_disk`` of a Dataset or a DatasetDict made."""
    return any((Path(folder) / name).is_file() for name in ("state.json", "dataset_dict.json"))


def read_saved(folder: Path | str) -> PackedRows:
    """List the rows of a folder of ``save_to_disk``.

    Returns:
        A row for each row with media; ``split`` is the split of a DatasetDict.

    Raises:
        ManifestError: If the folder is not such a folder, or has no Video or Audio column.
    """
    folder = Path(folder)
    samples = Samples(str(folder))
    if (folder / "dataset_dict.json").is_file():
        for split in _list_of(folder / "dataset_dict.json", "splits", str):
            _Files(samples).read(_saved_files(folder, _name(folder, split)), split)
    else:
        _Files(samples).read(_saved_files(folder, ""), None)
    return samples.finish()


def read_named(name: str) -> PackedRows:
    """List the rows of a dataset of the hub, which ``datasets.load_dataset`` fetches or finds in its cache.

    Args:
        name: ``hf:OWNER/NAME`` or ``hf:OWNER/NAME:CONFIG``.

    Raises:
        RunError: If the package ``datasets`` is not installed.
        ManifestError: If the dataset cannot be loaded, or has no Video or Audio column.
    """
    try:
        load_dataset = load("datasets:load_dataset")
    except (ImportError, AttributeError) as error:  # of the second kind: a folder of this name is not the package
        raise RunError(f"{name}: needs the package datasets ({error}). Install it: pip install 'avssl[hf]'.") from error
    dataset, _, subset = name.removeprefix(PREFIX).partition(":")
    _check_is_remote(name, dataset)
    try:
        splits = load_dataset(dataset, subset or None)
    except Exception as error:  # of many kinds: no such name, no network, a broken file ...
        raise ManifestError(f"{name}: cannot be loaded {_cause_and_advice(error, dataset)}") from error
    settings, hub = load("datasets:config"), load("huggingface_hub:constants")
    caches = [os.path.realpath(folder) for folder in (settings.HF_DATASETS_CACHE, hub.HF_HUB_CACHE)]
    files = _Files(Samples("/", name), caches)  # they lie anywhere on this machine
    for split, rows in splits.items():
        paths = [os.path.abspath(file["filename"]) for file in rows.cache_files]
        files.read([(path, name_to_text(path.lstrip("/"))) for path in paths], str(split))
    return files.samples.finish()


def _check_is_remote(name: str, dataset: str) -> None:
    """Raise ManifestError for names with which ``load_dataset`` would read the files of this folder instead."""
    if not _NAME.fullmatch(dataset):
        raise ManifestError(f"{name}: no name of a dataset on the hub, expected hf:OWNER/NAME or hf:OWNER/NAME:CONFIG.")
    if os.path.lexists(dataset):
        raise ManifestError(
            f"{name}: the files of {os.path.abspath(dataset)} would be read instead of the hub's. "
            f"Train on them with {dataset} as the source, or start in another folder."
        )


def _cause_and_advice(error: Exception, dataset: str) -> str:
    """Return why a dataset was not loaded, and what to do. The package's own kinds of errors are told by name."""
    kinds, cause = {kind.__name__ for kind in type(error).__mro__}, error
    if "DatasetGenerationError" in kinds and isinstance(error.__cause__, Exception):
        cause = error.__cause__  # whose text tells what is wrong
    text = " ".join(str(cause).split())[:_MAX_ERROR_CHARACTERS].rstrip(".")
    status = getattr(getattr(error, "response", None), "status_code", None)  # of HfHubHTTPError
    advice = f"Or fetch its files, and train on FOLDER: hf download {dataset} --repo-type dataset --local-dir FOLDER."
    if "DatasetNotFoundError" in kinds or status in (401, 403):
        advice = "Check the name; if it is private or gated, log in with 'hf auth login', or set HF_TOKEN."
    elif kinds & {"ConnectionError", "TransportError", "RequestException"}:  # the last two of httpx and requests
        advice = "Check the network, HF_ENDPOINT and HF_HUB_OFFLINE. What was loaded before is read from the cache."
    elif "ValueError" in kinds and "config" in text.lower():
        advice = f"Name one of its configs: {PREFIX}{dataset}:CONFIG."
    return f"({type(cause).__name__}: {text}). {advice}"


def _saved_files(folder: Path, split: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each Arrow file of a saved Dataset, and its path relative to the root."""
    for entry in _list_of(folder / split / "state.json", "_data_files", dict):
        relative = Path(split, _name(folder, entry.get("filename")))
        yield str(folder / relative), name_to_text(relative)


def _list_of(path: Path, key: str, kind: type) -> list[Any]:
    try:
        value = read_json(path, _MAX_JSON_BYTES)
    except FileError as error:
        raise ManifestError(str(error)) from error
    entries = value.get(key) if isinstance(value, dict) else None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, kind) for entry in entries):
        raise ManifestError(f"{path}: no list {key!r}, as save_to_disk writes it.")
    return entries


def _name(folder: Path, name: Any) -> str:
    """Return a name of a file or folder in a saved dataset; raise ManifestError if it could lead elsewhere."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise ManifestError(f"{folder}: {name!r} is no name of a file in it.")
    return name


def _features(file: str, schema: pa.Schema) -> dict[str, Any]:
    """Return the features by column: those of the schema's metadata, empty for others."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        found = json.loads(text)["info"]["features"] if len(text) <= _MAX_JSON_BYTES else None
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ManifestError(f"{file}: its schema has no features, as Hugging Face datasets writes them.")
    return {name: found.get(name) if isinstance(found.get(name), dict) else {} for name in schema.names}


def _media_columns(place: str, features: Mapping[str, Any]) -> dict[str, str]:
    """Return the column of each kind of media: one of its kind, or the one that is named as its kind."""
    columns: dict[str, str] = {}
    for kind in _MEDIA:
        names = [name for name, feature in features.items() if feature.get("_type") == kind]
        if len(names) > 1 and kind.lower() not in names:
            raise ManifestError(
                f"{place}: several {kind} columns ({', '.join(names)}). Keep one, or name it {kind.lower()}."
            )
        if names:
            columns[kind] = kind.lower() if kind.lower() in names else names[0]
    if not {"Video", "Audio"} & columns.keys():
        shown = ", ".join(f"{name} ({feature.get('_type', '?')})" for name, feature in features.items())
        advice = 'Cast the column with the media: cast_column("video", Video()); then use save_to_disk.'
        raise ManifestError(f"{place}: no Video or Audio column; it has {shown}. {advice}")
    return columns


def _embedded(file: str, content: pa.Buffer, column: pa.Array) -> list[tuple[int, int] | None]:
    """Return offset and size of the bytes of each row of a media column in the file; None where there are none."""
    if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
        raise ManifestError(f"{file}: a media column of type {column.type}, expected a struct with bytes and path.")
    data = column.field("bytes")
    is_large = pa.types.is_large_binary(data.type)
    if not is_large and not pa.types.is_binary(data.type):
        raise ManifestError(f"{file}: bytes of type {data.type}, expected binary.")
    _, offsets, values = data.buffers()
    numbers = np.frombuffer(offsets, np.int64 if is_large else np.int32)[data.offset : data.offset + len(data) + 1]
    num_bytes = 0 if values is None else values.size
    start = values.address - content.address if num_bytes else 0
    if not 0 <= start <= start + num_bytes <= content.size:
        raise ManifestError(f"{file}: its buffers are compressed; only media that lie there as they are can be read.")
    sizes = np.diff(numbers)
    held = data.is_valid().to_numpy(zero_copy_only=False) & column.is_valid().to_numpy(zero_copy_only=False)
    rows = zip((start + numbers[:-1].astype(np.int64)).tolist(), sizes.tolist(), held.tolist(), strict=True)
    return [(offset, size) if is_held else None for offset, size, is_held in rows]


def _values(column: pa.Array, feature: Mapping[str, Any]) -> list[Any]:
    """Return the values of a column that :func:`sample_cells` reads, else None; class numbers become names."""
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    item = kind.value_type if is_list else kind
    is_text = pa.types.is_string(item) or pa.types.is_large_string(item)
    is_number = pa.types.is_integer(item) or pa.types.is_boolean(item) or (pa.types.is_floating(item) and not is_list)
    if not (is_text or is_number):
        return [None] * len(column)
    of_items = feature.get("feature") if is_list and isinstance(feature.get("feature"), dict) else feature
    names = of_items.get("names") if isinstance(of_items, dict) and of_items.get("_type") == "ClassLabel" else None
    values = column.to_pylist()
    if not isinstance(names, list):
        return values
    return [[_class(names, each) for each in value] if is_list and value else _class(names, value) for value in values]


def _tar_cells(batch: pa.RecordBatch, cells: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the cells of a WebDataset that ``load_dataset`` read, as those of its tars are named.

    As in the tars, a field of the JSON comes before the ``cls`` or ``txt`` of the same sample.
    """
    known = {"cls": "label", "txt": "text"}
    named = {known.get(name, name): values for name, values in cells.items() if name not in ("json", "__url__")}
    fields: dict[str, list[Any]] = {}
    if "json" in cells and pa.types.is_struct(batch.column("json").type):
        column = batch.column("json")
        fields = {field.name: _values(values, {}) for field, values in zip(column.type, column.flatten(), strict=True)}
    for name, values in fields.items():
        others = named.get(name, [None] * len(batch))
        named[name] = [other if value is None else value for value, other in zip(values, others, strict=True)]
    return named


def _class(names: list[Any], value: Any) -> Any:
    if not isinstance(value, int):
        return value
    return str(names[value]) if 0 <= value < len(names) else None  # -1 stands for an unknown class
