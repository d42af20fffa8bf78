"""Moments of files as a page to look at and listen to: pictures inside it, players that open the files beside it.

The page has no script and works from a disk. A player shows one moment through a media fragment,
``#t=start,stop`` (https://www.w3.org/TR/media-frags/, 4.2.1).
"""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from avssl.media import MediaError, open_media
from avssl.reports import html_page

THUMBNAIL_SHORT_SIDE = 160
"""Pixels; a JPEG of 5 to 10 kB."""

_STYLE = """
.moments { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1.2rem .9rem; }
.query { max-width: 22rem; }
figure video, .still { width: 100%; aspect-ratio: 16 / 9; background: #15151b; border-radius: 4px; }
figure video, figure audio, .still { display: block; margin-bottom: .4rem; }
.still { box-sizing: border-box; padding: 2rem 1rem; text-align: center; color: #aaa; font-size: .85rem; }
figure audio { width: 100%; } figcaption b { color: #1c1c22; font-variant-numeric: tabular-nums; }
.weak video, .weak audio, .weak .still { opacity: .6; } .weak b { font-weight: 400; }
"""


@dataclass(frozen=True)
class ShownMoment:
    """A stretch of one file, and what is said of it. All text is plain."""

    file: Path
    """Where the file should be; it may be missing."""
    name: str
    """What it is called on the page."""
    start_seconds: float
    """On the file's own clock."""
    stop_seconds: float
    """On the file's own clock."""
    headline: str
    """In bold, such as ``"1 · cosine 0.81"``."""
    is_weak: bool = False
    """Whether to show it faintly."""


@dataclass(frozen=True)
class MomentGroup:
    """Moments under one heading."""

    title: str
    """Plain text."""
    note: str
    """Plain text, above them."""
    moments: Sequence[ShownMoment]
    """In order."""


def write_search_page(path: Path | str, title: str, query: ShownMoment, groups: Sequence[MomentGroup]) -> None:
    """Writes the page.

    Args:
        path: The HTML file. Links to files are relative to its folder.
        title: Plain text.
        query: What was looked for.
        groups: What was found.
    """
    folder = Path(path).resolve().parent
    sections = [f"<h1>{html.escape(title)}</h1><div class='query'>{_card(query, folder)}</div>"]
    for group in groups:
        cards = "".join(_card(moment, folder) for moment in group.moments)
        sections.append(f"<h2>{html.escape(group.title)}</h2><p class='note'>{html.escape(group.note)}</p>")
        sections.append(f"<div class='moments'>{cards}</div>")
    html_page.write_page(path, title, sections, _STYLE)


def _card(moment: ShownMoment, folder: Path) -> str:
    link, name = _link(moment.file, folder), html.escape(moment.name)
    times = f"{moment.start_seconds:.2f} to {moment.stop_seconds:.2f} s"
    caption = f"<b>{html.escape(moment.headline)}</b><br>{times}<br><a href='{link}'>{name}</a>"
    weak = " class=weak" if moment.is_weak else ""
    return f"<figure{weak}>{_player(moment, link)}<figcaption>{caption}</figcaption></figure>"


def _player(moment: ShownMoment, link: str) -> str:
    """A video with its picture, a sound, or a word on why there is neither."""
    part = f"{link}#t={max(0.0, moment.start_seconds):.3f},{moment.stop_seconds:.3f}"
    try:
        frame = middle_frame(moment)
    except MediaError as error:
        return f"<div class='still'>{html.escape(error.found)}</div>"
    if frame is None:
        return f"<audio controls preload='none' src='{part}'></audio>"
    poster = html_page.data_uri(html_page.encode_picture(frame, "jpeg"))
    return f"<video controls preload='none' poster='{poster}' src='{part}'></video>"


def middle_frame(moment: ShownMoment) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB: the small frame in the middle of the moment; None of a file without a picture.

    Raises:
        MediaError: If the file cannot be read.
    """
    with open_media(moment.file) as reader:
        start, stop = reader.info.video_start_seconds, reader.info.video_stop_seconds
        if start is None or stop is None:
            return None
        middle = min(max((moment.start_seconds + moment.stop_seconds) / 2, start), stop)
        frame = reader.read_frames([middle], THUMBNAIL_SHORT_SIDE)[0]
    pixels: np.ndarray = frame.movedim(0, -1).contiguous().numpy()
    return pixels


def _link(file: Path, folder: Path) -> str:
    """A relative address with every character escaped that could end it or mean something in it, a colon too."""
    return quote(os.fsencode(os.path.relpath(file.resolve(), folder)))
