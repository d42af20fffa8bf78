"""Cut the rows of whole files into rows of a few seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.data.media_files import AUDIO_EXTENSIONS
from avssl.data.row_files import open_row
from avssl.media import MediaError, MediaInfo

_COLUMNS = ("id", "start_seconds", "stop_seconds", "duration_seconds")


def segment_rows(
    manifest: Manifest, seconds: float, over_seconds: float | None = None
) -> tuple[Manifest, list[MediaError]]:
    """Cut every row of a whole file into consecutive rows; the other columns are those of the whole.

    A row that has a start or stop, or a truth file whose times count from the start of the file, stays as it is.

    Args:
        manifest: The rows. The lengths of their files are read from the headers.
        seconds: Length of the new rows. The rest at the end of a file is a row if it is at least half as long.
        over_seconds: Only longer files are cut; default: those of at least one and a half new rows.

    Returns:
        The rows, and the errors of the files that cannot be opened, whose rows stay whole.

    Raises:
        InputError: If ``seconds`` is not a length.
    """
    if not 0.1 <= seconds < float("inf"):
        raise InputError(f"segment_seconds ({seconds}) must be at least 0.1.")
    over = 1.5 * seconds if over_seconds is None else over_seconds
    whole: list[int] = []
    cells: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    errors: list[MediaError] = []
    for row in range(len(manifest)):
        for segment in _row_segments(manifest, row, seconds, over, errors):
            whole.append(row)
            for name, value in zip(_COLUMNS, segment, strict=True):
                cells[name].append(value)
    table = manifest.table.take(pa.array(whole, type=pa.int64()))
    columns = {name: table[name].to_pylist() for name in table.column_names if name not in _COLUMNS}
    return Manifest.from_columns({**cells, **columns}, manifest.root), errors


def _row_segments(
    manifest: Manifest, row: int, seconds: float, over_seconds: float, errors: list[MediaError]
) -> list[tuple[Any, ...]]:
    """Return (id, start, stop, duration) of the new rows."""
    as_it_is = tuple(manifest.value(row, name) for name in _COLUMNS)
    if as_it_is[1] is not None or as_it_is[2] is not None or manifest.value(row, "truth"):
        return [as_it_is]
    try:
        with open_row(manifest, row, stream=_only_stream(manifest, row)) as reader:
            start, stop = _span(reader.info)
    except MediaError as error:
        errors.append(error)
        return [as_it_is]
    if stop - start < over_seconds:
        return [as_it_is]
    return [(f"{as_it_is[0]}#{a:.3f}-{b:.3f}", a, b, b - a) for a, b in consecutive_spans(start, stop, seconds)]


def consecutive_spans(start: float, stop: float, seconds: float) -> Iterator[tuple[float, float]]:
    """Yield spans of one length from the start on, and the rest if it is at least half as long."""
    number = 0
    while (left := stop - (begin := start + number * seconds)) >= seconds / 2:
        yield begin, begin + min(left, seconds)
        number += 1


def _only_stream(manifest: Manifest, row: int) -> Any:
    """Return "audio" for the row of an audio file."""
    name = manifest.value(row, "source_path") or manifest.value(row, "path")
    return "audio" if PurePosixPath(name).suffix.lower() in AUDIO_EXTENSIONS else None


def _span(info: MediaInfo) -> tuple[float, float]:
    """Return the time that all streams of a file have in common."""
    starts = [s for s in (info.video_start_seconds, info.audio_start_seconds) if s is not None]
    stops = [s for s in (info.video_stop_seconds, info.audio_stop_seconds) if s is not None]
    return (max(starts), min(stops)) if starts and stops else (0.0, 0.0)
