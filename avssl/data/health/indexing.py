"""Make the manifest of a folder of media files: one row per file, or several for a long file.

Every file is checked in a process that can be killed. An unusable file (no audio, not media, cut off, silent ...)
becomes a failure with a reason, not a row. Nothing is written into the folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.health.check import check_files, printable
from avssl.data.health.report import HealthSettings, common_span
from avssl.data.media_files import MEDIA_EXTENSIONS, walk_media
from avssl.media import MediaError, MediaInfo

_COLUMNS = (
    "id",
    "path",
    "duration_seconds",
    "video_fps",
    "width",
    "height",
    "audio_sample_rate_hz",
    "start_seconds",
    "stop_seconds",
)


@dataclass(frozen=True)
class FolderIndex:
    """The usable rows and the failures of a folder."""

    manifest: Manifest
    """The usable rows, sorted by path and second."""
    failures: dict[str, MediaError]
    """Errors of the unusable media files, by their path relative to the manifest's root."""
    num_reused: int = 0
    """Unchanged files whose report came from the journal."""

    @property
    def num_files(self) -> int:
        """Number of media files, usable or not."""
        return len(set(self.manifest["path"])) + len(self.failures)

    @property
    def bad_fraction(self) -> float:
        """Fraction of media files that failed, in [0, 1]."""
        return len(self.failures) / max(1, self.num_files)

    @property
    def hours(self) -> float:
        """Hours of video with audio in the rows."""
        return float(self.manifest["duration_seconds"].sum()) / 3600

    def summary(self) -> str:
        """Return files, rows, hours, and the failures by reason, in lines."""
        num_ok = self.num_files - len(self.failures)
        known = f" ({self.num_reused} unchanged since an earlier check)" if self.num_reused else ""
        lines = [f"{self.num_files} files{known}: {num_ok} ok, {len(self.failures)} cannot be used"]
        reasons = Counter(error.reason for error in self.failures.values())
        lines += [f"  {count} {reason}" for reason, count in reasons.most_common()]
        return "\n".join([*lines, f"{len(self.manifest)} rows, {self.hours:.2f} h"])

    def failures_table(self) -> pa.Table:
        """Return one line per failed file, with the columns of ``dropped_files.csv``; the id is the path."""
        names = ("id", "path", "stream", "reason", "message")
        rows = [(path, path, e.stream, e.reason, " ".join(str(e).split())) for path, e in self.failures.items()]
        return pa.table({name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(names)})


def index_folder(
    folder: Path | str,
    *,
    root: Path | str | None = None,
    segment_seconds: float = 10.0,
    segment_over_seconds: float = 30.0,
    health: HealthSettings | None = None,
    journal: Path | str | None = None,
    num_workers: int | None = None,
    progress: bool = False,
) -> FolderIndex:
    """Check every media file under ``folder``.

    Args:
        folder: Searched to any depth.
        root: Folder that ids and paths are relative to: ``folder`` (default) or a folder above it.
        segment_seconds: Length of the consecutive rows that a long file is cut into. The rest
            at its end is a row if it is at least half as long, and is left out otherwise.
        segment_over_seconds: Files longer than this are cut, in seconds.
        health: Depth and limits of the check; default: those of :class:`HealthSettings`.
        journal: File that stores the reports, so that unchanged files are not checked again and a run that was
            stopped continues; None stores nothing.
        num_workers: Files checked at a time, each in its own process; default: one per core.
        progress: Show a progress bar on stderr.

    Returns:
        Rows with video and audio; ``start_seconds`` and ``stop_seconds`` bound the time
        with both. A file of one row has its relative path as id, a segment ``path#10.000-20.000``.

    Raises:
        ManifestError: If ``folder`` is not a folder, contains no media file, or is not inside ``root``.
    """
    folder = Path(folder)
    root = folder if root is None else Path(root)
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder.")
    if not folder.resolve().is_relative_to(root.resolve()):
        raise ManifestError(f"{folder} is not inside {root}, so its paths cannot be relative to it.")
    prefix = folder.resolve().relative_to(root.resolve())
    paths = sorted(prefix / path for path in walk_media(folder))
    if not paths:
        raise ManifestError(f"{folder}: no media files ({', '.join(sorted(MEDIA_EXTENSIONS))}) in it or below.")
    names = [path.as_posix() for path in paths]
    reports, num_reused = check_files(
        root, names, health, journal=journal, num_workers=num_workers, progress="index" if progress else None
    )
    rows: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    failures: dict[str, MediaError] = {}
    for name, report in zip(names, reports, strict=True):
        if report.error is not None:
            failures[printable(name)] = report.error
            continue
        assert report.info is not None, "a report holds an info or an error"
        for row in _rows(name, report.info, segment_seconds, segment_over_seconds):
            for column, value in zip(_COLUMNS, row, strict=True):
                rows[column].append(value)
    return FolderIndex(Manifest.from_columns(rows, root), failures, num_reused)


def _rows(path: str, info: MediaInfo, segment_seconds: float, over_seconds: float) -> Iterator[tuple[Any, ...]]:
    """Yield one row, or the segments, in the order of ``_COLUMNS``."""
    start, stop = common_span(info)
    about = (info.video_fps, info.width, info.height, info.audio_sample_rate_hz)
    if stop - start <= over_seconds:
        yield (path, path, stop - start, *about, start, stop)
        return
    # 34 s in segments of 10 s: [0, 10) [10, 20) [20, 30), and 4 s are less than half a segment.
    number = 0
    while (left := stop - (begin := start + number * segment_seconds)) >= segment_seconds / 2:
        end = begin + min(left, segment_seconds)
        yield (f"{path}#{begin:.3f}-{end:.3f}", path, end - begin, *about, begin, end)
        number += 1
