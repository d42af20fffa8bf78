"""Options of ``avssl app`` and its error class."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from avssl.core.errors import InputError
from avssl.core.ranges import Port, Seconds, checked
from avssl.media import MediaLimits

MAX_UPLOAD_BYTES = 512 * 2**20
"""Largest request, with all of its files. A minute of 4K video from a phone has about 400 MB."""


class AppError(InputError):
    """An error that the page shows to its user."""


@checked
@dataclass(frozen=True)
class AppSettings:
    """Options of ``avssl app``."""

    checkpoint: Path | str | None = None
    """A run directory, its weights folder, or hf-hub:OWNER/NAME; default: the model of ``--features``, or the demo
    weights."""
    examples: Path | str | None = None
    """Folder of example videos; default: a few rendered SoundingShapes scenes."""
    features: Path | str | None = None
    """Table of ``avssl embed`` to search in; default: the examples."""
    root: Path | str | None = None
    """Folder of the table's files, if it has moved."""
    port: Port | None = None
    """Port of 127.0.0.1; default: the first free one from 7860 on."""
    seconds: Seconds = 60.0
    """Use only this much of a video, from its start."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    """Limits on media files."""
