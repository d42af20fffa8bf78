"""The error for a media file that cannot be used, and how whatever a decoder raises becomes one."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from avssl.core.errors import AvsslError
from avssl.core.names import printable

_log = logging.getLogger(__name__)

Reason = Literal[
    "unreadable",
    "not_media",
    "no_video",
    "no_audio",
    "truncated",
    "too_short",
    "out_of_range",
    "still_picture",
    "silent",
    "empty",
    "replaced",
    "too_large",
    "timeout",
    "crashed",
]
"""Machine-readable cause of a :class:`MediaError`, used by readers, clip sampling and the health check."""


class MediaError(AvsslError):
    """A media file that cannot provide the requested data. The text names file, stream, second and remedy.

    It can be pickled, so it passes whole out of worker processes.

    Args:
        path: The file, as the caller named it.
        stream: ``"container"``, ``"video"`` or ``"audio"``.
        reason: Machine-readable cause, for ledgers of dropped files.
        found: What was found, as a sentence.
        advice: What to do about it, as a sentence.
        second: Presentation time of the fault, if known.

    Example:
        >>> try:
        ...     avssl.open_media("missing.mp4")
        ... except avssl.MediaError as error:
        ...     print(error.stream, error.reason)
        container unreadable
    """

    def __init__(
        self, path: str, stream: str, reason: Reason, found: str, advice: str, second: float | None = None
    ) -> None:
        self.path = str(path)
        self.stream = stream
        self.reason = reason
        self.found = found
        self.advice = advice
        self.second = second
        time = "" if second is None else f" at {second:.3f} s"
        super().__init__(f"{printable(self.path)}: {stream}{time}: {found} {advice}")

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str, Reason, str, str, float | None]]:
        return type(self), (self.path, self.stream, self.reason, self.found, self.advice, self.second)


class DeadlineExceeded(AvsslError):  # noqa: N818 (no user sees it: it becomes a MediaError, which names the file)
    """Reading took longer than its limit."""


@contextmanager
def media_errors(path: str, stream: str, second: float | None = None) -> Iterator[None]:
    """Turn every exception that reading a file raises into :class:`MediaError`; this project's own errors pass.

    Damaged files make decoders and the code around them raise nearly anything. Such a file is one bad file, with the
    exception's type, message and place as its reason; if the code is at fault, all files fail with that reason.

    Args:
        path: The file, as the caller named it.
        stream: ``"container"``, ``"video"`` or ``"audio"``.
        second: Presentation time of what is read, if known.
    """
    try:
        yield
    except DeadlineExceeded as error:
        advice = "Leave the file out, convert it to one that decodes faster, or raise max_decode_seconds."
        raise MediaError(path, stream, "timeout", str(error), advice, second) from error
    except AvsslError:
        raise
    except MemoryError as error:
        found, advice = "decoding needs more memory than there is.", "Scale the file down."
        raise MediaError(path, stream, "too_large", found, advice, second) from error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        text = " ".join(str(error).split())[:500]
        _log.debug("%s: reading failed", path, exc_info=True)
        found = f"reading failed ({type(error).__name__} in {place}: {text})."
        raise MediaError(path, stream, "crashed", found, "Leave the file out, or convert it.", second) from error
