"""Columns of the samples of archives that others made, and the account of those that give no row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from avssl.core.manifest import COLUMNS, Manifest, ManifestError
from avssl.data.ledger import Failure, failures_table
from avssl.media import MediaError
from avssl.media.errors import Reason

_OWN_COLUMNS = ("label", "split", "fold", "start_seconds", "stop_seconds")
"""Known columns that a sample may fill; others describe files, and are stored as ``sample_NAME``."""
_MAX_COLUMNS = 1000

Place = tuple[int, int] | str
"""Offset and size of a media file in an archive; or the path of a file of its own, relative to the root."""


@dataclass(frozen=True)
class PackedRows:
    """The rows of archives."""

    manifest: Manifest
    """A row for each sample with media."""
    failures: pa.Table
    """Samples and archives that gave no row, with the columns of ``dropped_files.csv``."""
    errors: dict[str, MediaError]
    """Their errors, by id."""


@dataclass
class Samples:
    """The samples of some archives.

    Args:
        root: Folder or URL that paths are relative to.
        name: Name of the dataset in messages, if it has one; otherwise they name the archive.
    """

    root: str
    name: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """The cells of each row."""
    errors: dict[str, tuple[str, MediaError]] = field(default_factory=dict)
    """Name of each sample or archive without a row → its archive, and why."""

    def add(self, name: str, path: str, media: Place, audio: Place | None, **cells: Any) -> None:
        """Add a row.

        Args:
            name: Its id, and the name of its source.
            path: The archive, relative to the root.
            media: Place of its media file.
            audio: Place of the file with its audio, if that is another one.
            cells: Its other cells.

        Raises:
            ValueError: If only one of the two lies in the archive.
        """
        row: dict[str, Any] = {"id": name, "path": path, "source_path": name}
        if isinstance(media, str):
            row["path"] = media
        else:
            row |= {"member_offset": media[0], "member_bytes": media[1]}
        if audio is not None:
            if isinstance(audio, str) != isinstance(media, str):
                raise ValueError("one of its media files lies in the archive, and the other is a file of its own")
            of_audio = (None, None) if isinstance(audio, str) else audio
            row |= {"audio_path": audio} if isinstance(audio, str) else {}
            row |= {"audio_member_offset": of_audio[0], "audio_member_bytes": of_audio[1]}
        self.rows.append(row | cells)

    def fail(self, name: str, path: str, reason: Reason, found: str, advice: str) -> None:
        """Add a sample, or an archive, that gives no row."""
        archive = self.name or f"{self.root.rstrip('/')}/{path}"
        shown = archive if name == path else f"{archive}: {name}"
        self.errors[name] = path, MediaError(shown, "container", reason, found, advice)

    def extend(self, others: Samples) -> None:
        """Add the samples of others."""
        self.rows += others.rows
        self.errors |= others.errors

    def finish(self) -> PackedRows:
        """Return the rows and the account of the others.

        Raises:
            ManifestError: If there is no row, or two have the same name.
        """
        errors, shown = [error for _, error in self.errors.values()], self.name or self.root
        if not self.rows:
            why = f" The first of {len(self.errors)} faults: {errors[0]}" if errors else ""
            raise ManifestError(f"{shown}: no sample with a video or audio.{why}")
        names = dict.fromkeys(name for row in self.rows for name in row)
        if len(names) > _MAX_COLUMNS:
            raise ManifestError(
                f"{shown}: samples with {len(names)} different fields, at most {_MAX_COLUMNS} are read."
            )
        columns = {name: [row.get(name) for row in self.rows] for name in names}
        failed = [
            Failure(number, name, path, error.stream, error.reason, str(error))
            for number, (name, (path, error)) in enumerate(self.errors.items())
        ]
        manifest = Manifest.from_columns(columns, self.root)
        return PackedRows(manifest, failures_table(failed), dict(zip(self.errors, errors, strict=True)))


def sample_cells(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of a sample's fields: text, numbers, and lists of text or whole numbers, joined by ``|``.

    Others, such as vectors and nested fields, have none.

    Raises:
        ValueError: If a label holds ``|``, or a time is no number.
    """
    cells: dict[str, Any] = {}
    for name, value in fields.items():
        column = str(name) if name in _OWN_COLUMNS or name not in COLUMNS else f"sample_{name}"
        if column == "source_path":
            column = "sample_source_path"
        if column in ("start_seconds", "stop_seconds"):
            cells[column] = _seconds(column, value)
        elif (text := _text(column, value)) is not None:
            cells[column] = text
    return {name: value for name, value in cells.items() if value is not None}


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, expected a number of seconds")
    return float(value)


def _text(name: str, value: Any) -> str | None:
    if isinstance(value, (str, int, float)):
        text = str(value)
        if name == "label" and "|" in text:
            raise ValueError(f"the label {text!r} holds '|', which separates labels")
        return text
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, (str, int)) for item in value):
        return "|".join(filter(None, (_text(name, item) for item in value)))
    return None
