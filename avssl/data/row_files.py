"""Open the file of a row, or the two files of a row whose audio lies in a file of its own."""

from __future__ import annotations

from avssl.core.batch import Modality
from avssl.core.manifest import Manifest
from avssl.data.file_stamps import check_unchanged
from avssl.data.media_files import has_image_name
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

    Raises:
        MediaError: If a file cannot be opened or was replaced, or an image has no file of audio.
    """
    check_unchanged(manifest, row)
    limits = row_limits(manifest, row, limits)
    path, audio_path = manifest.file(row), manifest.sound_file(row)
    if stream == "audio":
        return open_media(audio_path, backend, limits=limits)
    if stream is None and path != audio_path:
        return open_pair(path, audio_path, backend, limits=limits)
    if not has_image_name(path) or not is_image(path):
        return open_media(path, backend, limits=limits)
    if stream is None:
        advice = "Name its audio file in the column audio_path, or read only the video."
        raise MediaError(str(path), "audio", "no_audio", "an image has no audio.", advice)
    return ImageReader(path, image_seconds, limits=limits)


def row_limits(manifest: Manifest, row: int, limits: MediaLimits | None = None) -> MediaLimits:
    """Return the limits on the file of a row: the given ones where they are not the defaults, else those of the row."""
    return (limits or MediaLimits()).completed(manifest.value(row, LIMITS_COLUMN))
