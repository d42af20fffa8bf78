"""Make the manifest of a folder of media files: one row per file, or several for a long file.

Every file is checked in a process that can be killed. An unusable file (no audio, not media, cut off, silent ...)
becomes a failure with a reason, not a row. Nothing is written into the folder.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from avssl.core.manifest import Manifest, ManifestError
from avssl.core.names import name_to_text
from avssl.core.ranges import SecondsOrForever, SegmentSeconds, Workers, checked
from avssl.data.health.check import check_files
from avssl.data.health.journal import JournalUse
from avssl.data.health.report import PROMISES, Depth, HealthReport, HealthSettings
from avssl.data.health.segments import LeftOut, Segments
from avssl.data.media_files import AUDIO_EXTENSIONS, FolderListing, list_folder, media_extensions
from avssl.media import MediaError
from avssl.media.limits import LIMITS_COLUMN

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
    "file_bytes",
    "file_hash",
)


_MAX_NOTES = 50


@dataclass(frozen=True)
class FolderIndex:
    """The usable rows and the failures of a folder."""

    manifest: Manifest
    """The usable rows, sorted by path and second."""
    failures: dict[str, MediaError]
    """Errors of the unusable media files, by their path relative to the manifest's root."""
    left_out: list[tuple[str, LeftOut]] = field(default_factory=list)
    """Path and time of the parts of long files that give no row."""
    listing: FolderListing = field(default_factory=lambda: FolderListing([], {}, []))
    """All files of the folder, also those that are no media files by their names."""
    notes: list[tuple[str, str]] = field(default_factory=list)
    """Path and remark on usable files."""
    depth: Depth = "normal"
    """Depth of the check."""
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
        """Hours in the rows."""
        return float(self.manifest["duration_seconds"].sum()) / 3600

    def summary(self) -> str:
        """Return files, rows, hours, and the failures by reason, in lines."""
        num_ok = self.num_files - len(self.failures)
        known = f" ({self.num_reused} unchanged since an earlier check)" if self.num_reused else ""
        lines = [f"{self.num_files} files{known}: {num_ok} ok, {len(self.failures)} cannot be used"]
        reasons = Counter(error.reason for error in self.failures.values())
        lines += [f"  {count} {reason}" for reason, count in reasons.most_common()]
        lines += [f"ok at depth {self.depth}: {PROMISES[self.depth]}"]
        lines += [f"{len(self.manifest)} rows, {self.hours:.2f} h"]
        if passed_over := self.listing.passed_over():
            lines += [f"not media files by name: {passed_over}"]
        lines += [f"cannot be listed: {error}" for error in self.listing.unreadable]
        if parts := self.left_out_summary():
            lines += [f"left out of files: {parts}"]
        first = {note: path for path, note in reversed(self.notes)}
        counts = Counter(note for _, note in self.notes).most_common()
        lines += [f"{count} files, the first is {first[note]}: {note}" for note, count in counts[:_MAX_NOTES]]
        lines += [f"and {len(counts) - _MAX_NOTES} more notes"] if len(counts) > _MAX_NOTES else []
        return "\n".join(lines)

    def left_out_summary(self) -> str:
        """Return the seconds of long files that give no row, by reason, such as ``"600 s still_picture"``."""
        seconds: defaultdict[str, float] = defaultdict(float)
        for _, part in self.left_out:
            seconds[part.reason] += part.seconds
        longest_first = sorted(seconds.items(), key=lambda each: -each[1])
        return ", ".join(f"{number:.0f} s {reason}" for reason, number in longest_first if number >= 1)

    def failures_table(self) -> pa.Table:
        """Return one line per failed file, with the columns of ``dropped_files.csv``; the id is the path."""
        return _table([(path, path, e.stream, e.reason, " ".join(str(e).split())) for path, e in self.failures.items()])

    def left_out_table(self) -> pa.Table:
        """Return one line per part of a long file that gives no row, with the columns of :meth:`failures_table`."""
        rows = []
        for path, part in self.left_out:
            start, stop = f"{part.start_seconds:.3f}", f"{part.stop_seconds:.3f}"
            message = f"{path}: {start} to {stop} s, {part.seconds:.1f} s without a row: {part.reason}."
            rows.append((f"{path}#{start}-{stop}", path, "container", part.reason, message))
        return _table(rows)


def _table(rows: Sequence[tuple[str, ...]]) -> pa.Table:
    names = ("id", "path", "stream", "reason", "message")
    return pa.table({name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(names)})


@checked
def index_folder(
    folder: Path | str,
    *,
    root: Path | str | None = None,
    segment_seconds: SegmentSeconds = 10.0,
    segment_over_seconds: SecondsOrForever = 30.0,
    health: HealthSettings | None = None,
    journal: JournalUse = "update",
    num_workers: Workers | None = None,
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
        journal: Use of the reports in the user's cache folder, so that unchanged files are not checked again and a run
            that was stopped continues.
        num_workers: Files checked at a time, each in its own process; default: one per core.
        progress: Show a progress bar on stderr.

    Returns:
        Rows with the streams that ``health`` needs; ``start_seconds`` and ``stop_seconds`` bound the time
        with all of them. A file of one row has its relative path as id, a segment ``path#10.000-20.000``.

    Raises:
        ManifestError: If ``folder`` is not a folder, contains no media file, or is not inside ``root``.

    Example:
        >>> index = index_folder("corpus/train")
        >>> len(index.manifest), index.failures, index.manifest["path"][0]
        (8, {}, '000000.mp4')
    """
    folder, segments = Path(folder), Segments(segment_seconds, segment_over_seconds)
    root = folder if root is None else Path(root)
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder.")
    prefix = path_below(folder, root)
    if prefix is None:
        raise ManifestError(f"{folder} is not inside {root}, so its paths cannot be relative to it.")
    extensions = media_extensions("both" if health is None else health.stream)
    listing = list_folder(folder, extensions)
    found = sorted(listing.media)
    if not found:
        passed_over = f" There are {listing.passed_over()}." if listing.others else ""
        if listing.others and any(ending in listing.passed_over() for ending in AUDIO_EXTENSIONS):
            passed_over += " Audio files are rows of a manifest, with the columns id, path and, for images, audio_path."
        raise ManifestError(f"{folder}: no media files ({', '.join(sorted(extensions))}) in it or below.{passed_over}")
    reports, num_reused = check_files(
        folder,
        [path.as_posix() for path in found],
        health,
        segments,
        journal=journal,
        num_workers=num_workers,
        progress="index" if progress else None,
    )
    depth = (health or HealthSettings()).depth
    rows: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    failures: dict[str, MediaError] = {}
    left_out: list[tuple[str, LeftOut]] = []
    notes: list[tuple[str, str]] = []
    for path, report in zip(found, reports, strict=True):
        name = (prefix / path).as_posix()
        if report.error is not None:
            failures[name_to_text(name)] = report.error
            continue
        left_out += [(name_to_text(name), part) for part in report.left_out]
        notes += [(name_to_text(name), note) for note in report.notes]
        for row in _rows(name_to_text(name), report, segments):
            for column, value in zip(_COLUMNS, row, strict=True):
                rows[column].append(value)
    if health is not None and health.limits.text:
        rows[LIMITS_COLUMN] = [health.limits.text] * len(rows["id"])
    return FolderIndex(Manifest.from_columns(rows, root), failures, left_out, listing, notes, depth, num_reused)


def path_below(folder: Path, root: Path) -> Path | None:
    """Return the path of a folder relative to one at or above it, as it was named or else as it is; or None.

    ``mine/videos`` may be a link out of ``mine``: then it is still ``videos``.
    """
    for name in (os.path.abspath(folder), os.path.realpath(folder)):
        if not os.path.exists(name) or not os.path.samefile(name, folder):
            continue  # ".." behind a link leads elsewhere
        for above in [Path(name), *Path(name).parents]:
            if os.path.samefile(above, root):
                return Path(name).relative_to(above)
    return None


def _rows(path: str, report: HealthReport, segments: Segments) -> Iterator[tuple[Any, ...]]:
    """Yield one row, or the segments, in the order of ``_COLUMNS``."""
    info, spans = report.info, report.spans
    assert info is not None, "a report holds an info or an error"
    about = (info.video_fps, info.width, info.height, info.audio_sample_rate_hz)
    is_cut = report.is_cut(segments)
    for start, stop in segments.rows(spans) if is_cut else spans:
        name = f"{path}#{start:.3f}-{stop:.3f}" if is_cut or len(spans) > 1 else path
        yield (name, path, stop - start, *about, start, stop, report.num_bytes, report.content_hash)
