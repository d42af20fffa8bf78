"""Copy rows of a manifest into shards of a prepared corpus; one call makes one shard, in any process."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avssl.core.children import note
from avssl.core.manifest import Manifest
from avssl.core.whole_file import write_json
from avssl.data.content import content_hashes
from avssl.data.file_stamps import BYTES, DATE, HASH
from avssl.data.ledger import Failure
from avssl.data.packed.members import MEMBER_COLUMNS
from avssl.data.row_errors import row_errors
from avssl.data.row_files import open_row
from avssl.data.shards.format import read_record, record_path, shard_name, shard_writer
from avssl.media import MediaError, MediaInfo, MediaReader
from avssl.media.backends import BackendName
from avssl.media.limits import MediaLimits
from avssl.media.prepared.clip import CopySettings
from avssl.media.prepared.writer import PreparedClip, encode_clip

_CHUNK_BYTES = 128 << 20
"""Size of the RGB frames that are decoded at a time."""
_AUDIO_SECONDS = 60  # a whole number of samples at any rate
_INSIDE_SECONDS = 1e-4
_SHORTEST_SECONDS = 0.1

NOT_COPIED = ("start_seconds", "stop_seconds", "truth", "path", "audio_path", BYTES, HASH, DATE, *MEMBER_COLUMNS)
"""Columns about the source's own file and times; they are stored under the name ``source_...``."""


@dataclass(frozen=True)
class ShardJob:
    """The input of one shard. Plain values, so that it passes to other processes."""

    folder: Path
    """The prepared corpus."""
    number: int
    """Number of the shard."""
    manifest: Manifest
    """The shard's rows alone."""
    first_row: int
    """Index of the first of these rows in the whole manifest."""
    settings: CopySettings
    backend: BackendName
    """Decoder of the sources."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    """Limits on the sources; see :func:`~avssl.data.row_files.open_row`."""

    @property
    def key(self) -> str:
        """16 hex digits that identify the settings and rows of the shard."""
        about = [asdict(self.settings), self.manifest.table.to_pydict(), *filter(None, [self.limits.text])]
        return hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:16]

    @property
    def stamps(self) -> list[list[int] | None]:
        """Size and date of each row's source, and of its audio if that is another file; None if one is gone."""
        rows = range(len(self.manifest))
        return [_stamp(self.manifest.file(row), self.manifest.sound_file(row)) for row in rows]

    def files(self) -> list[Path]:
        """Return the folder of the copy and the sources."""
        rows = range(len(self.manifest))
        return [
            self.folder,
            *{self.manifest.file(row) for row in rows},
            *{self.manifest.sound_file(row) for row in rows},
        ]

    def finished(self) -> dict[str, Any] | None:
        """Return the record of the shard if it exists and no source that still exists has changed."""
        record = read_record(self.folder, self.number, self.key)
        if record is None:
            return None
        pairs = zip(self.stamps, record["stamps"], strict=True)
        return record if all(now is None or now == then for now, then in pairs) else None


def make_shard(job: ShardJob) -> dict[str, Any]:
    """Make a shard, unless it exists already.

    Returns:
        Its record: ``shard``, ``rows`` (of the new manifest), ``failures``, ``bytes``, ``sha256``, ``cpu_seconds``, and
        ``reused``. It is also written to ``shards/NUMBER.json``, last of all.
    """
    if record := job.finished():
        return {**record, "reused": True}
    stamps = job.stamps  # read first: a source that changes meanwhile is copied again by the next call
    began = time.process_time()
    path = job.folder / shard_name(job.number)
    rows, failures = [], []
    hashes = content_hashes(job.manifest)
    with shard_writer(path) as shard:
        for row in range(len(job.manifest)):
            note(f"copying {job.manifest.value(row, 'id')} ({job.manifest.location(row)})")
            try:
                clip, info = _copy(job, row)
            except MediaError as error:
                failures.append(asdict(Failure.of(job.manifest, row, error)) | {"row": job.first_row + row})
                continue
            about = _row(job.manifest, row, clip, info) | {"source_file_hash": hashes[row]}
            rows.append(about | {"path": shard_name(job.number)} | shard.add(job.first_row + row, clip, about))
    record = {
        "shard": shard_name(job.number),
        "key": job.key,
        "stamps": stamps,
        "bytes": path.stat().st_size,
        "sha256": shard.sha256,
        "cpu_seconds": round(time.process_time() - began, 3),
        "rows": rows,
        "failures": failures,
    }
    write_json(record_path(job.folder, job.number), record)
    return {**record, "reused": False}


def copy_clip(reader: MediaReader, start: float, stop: float, settings: CopySettings) -> PreparedClip:
    """Encode the time of [start, stop) that has video and audio; the copy begins at 0 s.

    Frame k of the copy is the one shown at ``start + (k + 1/2) / fps``, the middle of its time, so that rounding to
    the copy's frames is off by half a frame at most.

    Args:
        start: Start in seconds; may lie before both streams.
        stop: Stop in seconds; may lie after both streams.
        settings: Codecs, size and rates.

    Raises:
        MediaError: If a stream is missing, cannot be decoded, or less than 0.1 s is left.
    """
    start, stop = _common_span(reader.info, start, stop)
    fps = settings.frames_per_second
    num_frames = max(1, math.ceil((stop - start) * fps - 1e-6))  # the last one may be shorter
    short_side = min(settings.short_side, reader.info.height or 0, reader.info.width or 0)
    times = [min(start + (k + 0.5) / fps, stop - _INSIDE_SECONDS) for k in range(num_frames)]
    try:
        return encode_clip(
            _read_frames(reader, times, short_side), _read_audio(reader, start, stop, settings), settings
        )
    except ValueError as error:
        raise MediaError(reader.info.path, "video", "unreadable", str(error), "Leave the row out.") from error


def _read_audio(reader: MediaReader, start: float, stop: float, settings: CopySettings) -> Tensor:
    """Read (S,) samples in parts, as streams with many channels take much memory before mixing."""
    edges = [start + part * _AUDIO_SECONDS for part in range(math.ceil((stop - start) / _AUDIO_SECONDS))]
    spans = zip(edges, [*edges[1:], stop], strict=True)
    return torch.cat([reader.read_audio(a, b, settings.sample_rate_hz, num_channels=1)[0] for a, b in spans])


def _read_frames(reader: MediaReader, times: list[float], short_side: int) -> Iterator[Tensor]:
    width, height = reader.info.width or 1, reader.info.height or 1
    frame_bytes = 3 * short_side**2 * max(width, height) / min(width, height)
    step = max(16, int(_CHUNK_BYTES / frame_bytes))
    for first in range(0, len(times), step):
        yield reader.read_frames(times[first : first + step], short_side)


def _common_span(info: MediaInfo, start: float, stop: float) -> tuple[float, float]:
    if info.video_start_seconds is None or info.video_stop_seconds is None:
        raise MediaError(info.path, "video", "no_video", "there is no video stream.", "Leave the file out.")
    if info.audio_start_seconds is None or info.audio_stop_seconds is None:
        raise MediaError(info.path, "audio", "no_audio", "there is no audio stream.", "Leave the file out.")
    start = max(start, info.video_start_seconds, info.audio_start_seconds)
    stop = min(stop, info.video_stop_seconds, info.audio_stop_seconds)
    if stop - start < _SHORTEST_SECONDS:
        found = f"video and audio have only {max(0.0, stop - start):.3f} s in common."
        raise MediaError(info.path, "container", "too_short", found, "Leave the row out.", start)
    return start, stop


def _copy(job: ShardJob, row: int) -> tuple[PreparedClip, MediaInfo]:
    manifest = job.manifest
    start, stop = (manifest.value(row, name) for name in ("start_seconds", "stop_seconds"))
    with row_errors(manifest.name(row)), open_row(manifest, row, job.backend, limits=job.limits) as reader:
        span = -math.inf if start is None else start, math.inf if stop is None else stop
        return copy_clip(reader, *span, job.settings), reader.info


def _row(manifest: Manifest, row: int, clip: PreparedClip, info: MediaInfo) -> dict[str, Any]:
    """Return the copy's row of the new manifest, without its position in the shard."""
    values = {name: manifest.value(row, name) for name in manifest.table.column_names}
    video, audio = clip.about["video"], clip.about["audio"]
    seconds = audio["samples"] / audio["rate"]
    kept = {name: value for name, value in values.items() if name not in NOT_COPIED}
    renamed = {f"source_{name}": values[name] for name in NOT_COPIED if values.get(name) is not None}
    return (
        kept
        | {
            "duration_seconds": seconds,
            "video_fps": video["frames_per_second"],
            "width": video["width"],
            "height": video["height"],
            "audio_sample_rate_hz": audio["rate"],
            "start_seconds": 0.0,
            "stop_seconds": seconds,
        }
        | {name: str(value) for name, value in renamed.items()}
    )


def _stamp(*paths: Path) -> list[int] | None:
    """Return size and date of each different path."""
    try:
        found = [path.stat() for path in dict.fromkeys(paths)]
    except OSError:
        return None
    return [number for status in found for number in (status.st_size, status.st_mtime_ns)]
