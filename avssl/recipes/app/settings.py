"""What a user of the app decides, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avssl.core.errors import InputError

MAX_UPLOAD = "512mb"
"""Of one file, as gradio writes sizes. A minute of a phone's 4K video has about 400 MB."""


class AppError(InputError):
    """What the app cannot do; the message says why, and what would be right."""


@dataclass(frozen=True)
class AppSettings:
    """Options of ``avssl app``."""

    checkpoint: Path | str | None = None
    """Run, release or hub id; None takes the model that the table names, and without a table the demo weights."""
    examples: Path | str | None = None
    """Folder of videos to choose from; None renders a few scenes of SoundingShapes."""
    features: Path | str | None = None
    """A table of ``avssl embed`` to search in; None searches in the examples."""
    root: Path | str | None = None
    """Folder of the table's files, where they are not where the table says."""
    port: int | None = None
    """Of 127.0.0.1; None takes the first free one from 7860 on."""
    seconds: float = 60.0
    """How much of a video is looked at, from its start."""
    device: str = "auto"
    """Where the model runs."""

    def __post_init__(self) -> None:
        if self.port is not None and not 1 <= self.port <= 65535:
            raise AppError(f"port ({self.port}) must lie in 1 to 65535.")
        if not self.seconds > 0:
            raise AppError(f"seconds ({self.seconds:g}) must be greater than 0.")
