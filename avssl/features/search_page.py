"""Write search hits as a page: thumbnails inside it, players that open the files beside it.

The page has no script and works from a disk. A player shows one moment through a media fragment,
``#t=start,stop`` (https://www.w3.org/TR/media-frags/, 4.2.1).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from avssl.media import MediaError, MediaLimits, open_media
from avssl.reports.html_page import encode_picture, write_page

THUMBNAIL_SHORT_SIDE = 160
"""Pixels; a JPEG of 5 to 10 kB."""


@dataclass(frozen=True)
class Moment:
    """A time span of one file with its caption. All text is plain."""

    file: Path
    """Path of the file, which may be missing."""
    name: str
    """Name on the page."""
    start_seconds: float
    """Presentation time."""
    stop_seconds: float
    """Presentation time."""
    headline: str
    """Bold caption, such as ``"1 · cosine 0.81"``."""
    is_weak: bool = False
    """True to show it faintly."""


@dataclass(frozen=True)
class MomentGroup:
    """Moments under one heading."""

    title: str
    """Heading."""
    note: str
    """Text below the heading."""
    moments: Sequence[Moment]
    """Moments, best first."""


def write_search_page(
    path: Path | str,
    title: str,
    query: Moment | None,
    groups: Sequence[MomentGroup],
    limits: MediaLimits | None = None,
    warning: str = "",
) -> None:
    """Write the page; links to files are relative to the folder of ``path``, and a query that is a text has no card."""
    folder = Path(path).resolve().parent
    found = [
        {"title": group.title, "note": group.note, "moments": cards(group.moments, folder, limits)} for group in groups
    ]
    card = [] if query is None else cards([query], folder, limits)
    write_page(path, "search.html", title=title, query=card, groups=found, warning=warning)


def cards(moments: Sequence[Moment], folder: Path, limits: MediaLimits | None) -> list[dict[str, Any]]:
    """Return the template variables of each moment, for a page in a folder; it shows why a file cannot be read."""
    found = []
    for moment in moments:
        problem, thumbnail = None, None
        try:
            frame = middle_frame(moment, limits)
            thumbnail = None if frame is None else encode_picture(frame, "jpeg")
        except MediaError as error:
            problem = error.found
        link = relative_link(moment.file, folder)
        fragment = f"{link}#t={max(0.0, moment.start_seconds):.3f},{moment.stop_seconds:.3f}"
        found.append({**asdict(moment), "link": link, "fragment": fragment, "problem": problem, "thumbnail": thumbnail})
    return found


def middle_frame(moment: Moment, limits: MediaLimits | None = None) -> np.ndarray | None:
    """Read the middle frame as (H, W, 3) uint8 RGB, None without video; raise MediaError if the file is damaged."""
    with open_media(moment.file, limits=limits) as reader:
        start, stop = reader.info.video_start_seconds, reader.info.video_stop_seconds
        if start is None or stop is None:
            return None
        middle = min(max((moment.start_seconds + moment.stop_seconds) / 2, start), stop)
        frame = reader.read_frames([middle], THUMBNAIL_SHORT_SIDE)[0]
    pixels: np.ndarray = frame.movedim(0, -1).contiguous().numpy()
    return pixels


def relative_link(file: Path, folder: Path) -> str:
    """Return a relative URL with every special character escaped, colons too."""
    return quote(os.fsencode(os.path.relpath(file.resolve(), folder)))
