"""Open the file of a row, or the two of a row whose audio has a file of its own; also those inside an archive."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path

from avssl.core.batch import Modality
from avssl.core.manifest import Manifest
from avssl.core.memory_file import MemoryFile
from avssl.data.file_stamps import check_unchanged
from avssl.data.media_files import has_image_name
from avssl.data.packed.members import is_member, read_members
from avssl.data.row_errors import row_errors
from avssl.data.shards.storage import RangeReader
from avssl.media import ImageReader, MediaError, MediaReader, is_image, open_media, open_pair
from avssl.media.backends import BackendName
from avssl.media.limits import LIMITS_COLUMN, MediaLimits


def open_row(
    manifest: Manifest,
    row: int,
    backend: BackendName = "auto",
    *,
    stream: Modality | None = None,
    image_seconds: float = 10.0,
    limits: MediaLimits | None = None,
    ranges: RangeReader | None = None,
) -> MediaReader:
    """Open the media of a row.

    Args:
        manifest: The rows; ``audio_path`` names the audio of a row whose ``path`` is an image or has no audio.
        row: Position in the manifest.
        backend: Decoder of media files.
        stream: The only stream that is needed; None for both.
        image_seconds: How long an image lasts whose audio is not read.
        limits: Limits on the files. Where they are the defaults, those of the row count: the column ``limits``, which
            ``avssl index`` writes.
        ranges: Reads archives and keeps some open; default: opened for this row alone.

    Raises:
        MediaError: If a file cannot be opened or was replaced, or an image has no file of audio.
    """
    check_unchanged(manifest, row)
    limits = row_limits(manifest, row, limits)
    if not is_member(manifest, row):
        path, audio_path = manifest.file(row), manifest.sound_file(row)
        may_be_image = has_image_name(path)
        return _open_files(path, audio_path, backend, stream, image_seconds, limits, may_be_image=may_be_image)
    with row_errors(manifest.name(row)):
        files = read_members(manifest, row, ranges or RangeReader())
        path, audio_path = files[0].path, files[-1].path
        try:
            reader = _open_files(path, audio_path, backend, stream, image_seconds, limits, may_be_image=True)
        except BaseException:
            _close(files)
            raise
        weakref.finalize(reader, _close, files)  # the reader opens them again, for as long as it lives
        return reader


def _open_files(
    path: Path,
    audio_path: Path,
    backend: BackendName,
    stream: Modality | None,
    image_seconds: float,
    limits: MediaLimits,
    *,
    may_be_image: bool,
) -> MediaReader:
    if stream == "audio":
        return open_media(audio_path, backend, limits=limits)
    if stream is None and path != audio_path:
        return open_pair(path, audio_path, backend, limits=limits)
    if not may_be_image or not is_image(path):
        return open_media(path, backend, limits=limits)
    if stream is None:
        advice = "Name its audio file in the column audio_path, or read only the video."
        raise MediaError(str(path), "audio", "no_audio", "an image has no audio.", advice)
    return ImageReader(path, image_seconds, limits=limits)


def _close(files: Sequence[MemoryFile]) -> None:
    for file in files:
        file.close()


def row_limits(manifest: Manifest, row: int, limits: MediaLimits | None = None) -> MediaLimits:
    """Return the limits on the file of a row: the given ones where they are not the defaults, else those of the row."""
    return (limits or MediaLimits()).completed(manifest.value(row, LIMITS_COLUMN))
