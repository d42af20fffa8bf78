"""Open a local media file safely."""

from __future__ import annotations

import logging
import os
import re
import stat
from pathlib import Path

from avssl.media.backends import BackendName, reader_class
from avssl.media.errors import MediaError, media_errors
from avssl.media.limits import MediaLimits
from avssl.media.pyav.joined_reader import JoinedReader
from avssl.media.pyav.parts import parts_of
from avssl.media.reader import MediaReader

_log = logging.getLogger(__name__)


def open_media(
    path: str | os.PathLike[str],
    backend: BackendName = "auto",
    *,
    limits: MediaLimits | None = None,
) -> MediaReader:
    """Open a local media file by its header, without scanning it.

    A file that holds several recordings behind one another, such as a transport stream whose clock restarts, is read by
    PyAV with any backend, on a clock that runs on where a recording begins; ``info.clock_jumps`` lists these times.

    Only regular files are opened, and only as single-file containers: URLs, FFmpeg protocol
    strings, playlists, manifests and image sequences raise an error.

    Args:
        path: The file.
        backend: Decoder; ``"auto"`` is the fastest that loads, see :data:`avssl.media.backends.BACKENDS`.
        limits: Limits on the file; default: those of :class:`~avssl.media.MediaLimits`.

    Raises:
        MediaError: If the file is missing, not a media file, damaged or over a limit.
        ValueError: If ``backend`` is unknown.
        RuntimeError: If ``backend`` does not load here.

    Example:
        >>> with open_media("video.mp4") as reader:
        ...     frames = reader.read_frames([0.0, 0.5, 1.0])  # (3, 3, H, W) uint8
        ...     audio = reader.read_audio(0.0, 1.0, sample_rate_hz=16000)
        >>> frames.dtype
        torch.uint8
    """
    reader, file = reader_class(backend), local_file(path)
    limits = limits or MediaLimits()
    with media_errors(str(path), "container"):
        parts = parts_of(file, limits)
        if parts is None:
            opened: MediaReader = reader(file, limits)
        else:
            opened = JoinedReader(file, limits, parts)
            if backend not in ("auto", "pyav"):
                _log.info("%s: PyAV reads it instead of %s, as it holds several recordings", path, backend)
    return opened


def local_file(path: str | os.PathLike[str]) -> Path:
    """Return the path if it names a non-empty regular file; links are followed.

    Raises:
        MediaError: If it does not, or the file may not be read.
    """
    name = os.fspath(path)
    try:
        status = os.stat(name)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        if re.match(r"[A-Za-z][A-Za-z0-9+.,-]+:", name):
            found, advice = "this is a URL or protocol string.", "Only local files are read: download it first."
        else:
            found = f"the file cannot be opened ({getattr(error, 'strerror', None) or error})."
            advice = "Check the path and its permissions."
        raise MediaError(name, "container", "unreadable", found, advice) from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(name, "container", "unreadable", "this is a directory.", "Name one media file.")
    if not stat.S_ISREG(status.st_mode):
        found = "this is a device, pipe or socket, not a regular file."
        raise MediaError(name, "container", "unreadable", found, "Copy it to a file first.")
    if status.st_size == 0:
        raise MediaError(name, "container", "not_media", "the file is empty.", "Fetch or record it again.")
    if not os.access(name, os.R_OK):
        raise MediaError(name, "container", "unreadable", "no permission to read the file.", "Change its mode.")
    return Path(name)
