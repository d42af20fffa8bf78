"""The error for a media file that cannot be used."""

from __future__ import annotations

from typing import Literal

from avssl.core.errors import AvsslError

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
        super().__init__(f"{self.path}: {stream}{time}: {found} {advice}")

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str, Reason, str, str, float | None]]:
        return type(self), (self.path, self.stream, self.reason, self.found, self.advice, self.second)
