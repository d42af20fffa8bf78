"""What the page says, as HTML. Names of files are anybody's and are escaped here."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from avssl.media import MediaError
from avssl.recipes.app.looking import Looked
from avssl.reports.html_page import table

_ADVICE = {
    "no_audio": "Choose another sound for it, such as silence, noise or that of another file.",
    "no_video": "Choose a file that has a picture.",
}
_OTHER_ADVICE = "Choose another file, or convert this one to mp4 (H.264 and AAC) first."


def failure(error: Exception) -> str:
    """Why nothing can be shown, in words, with what to do."""
    if isinstance(error, MediaError):
        advice = _ADVICE.get(error.reason, _OTHER_ADVICE)
        return f"<b>{_name(error.path)}</b>: {html.escape(error.found)} {advice}"
    return html.escape(str(error))


def verdict(looked: Looked) -> str:
    """The latest sound in a sentence or two."""
    latest = max(looked.peaks, key=lambda peak: peak["confidence"])
    height, width = looked.frame_hw
    lines = [
        f"Surest at <b>{latest['second']:.2f} s</b>, at x {latest['x']:.0f}, y {latest['y']:.0f} of "
        f"{width} × {height} pixels: cosine <b>{latest['confidence']:.2f}</b>."
    ]
    if looked.left_out_seconds > 0.05:
        length = looked.seconds + looked.left_out_seconds
        lines.append(
            f"This video is {length:.0f} s long; its first {looked.seconds:g} s are shown. "
            "More are with <code>avssl app --seconds</code>."
        )
    return " ".join(lines)


def sounds(looked: Looked) -> str:
    """A row for every sound that was tried."""
    header = ("sound", "highest cosine", "on average", "surest at", "x", "y")
    rows = [
        (
            heard.sound,
            f"{heard.best['confidence']:.3f}",
            f"{heard.mean:.3f}",
            f"{heard.best['second']:.2f} s",
            f"{heard.best['x']:.0f}",
            f"{heard.best['y']:.0f}",
        )
        for heard in looked.heard
    ]
    low, high = looked.scale
    return table(header, rows) + (
        f"<p class='note'>A model that listens is surer of what is in the picture than of silence, noise or strangers. "
        f"The colors run from cosine {low:.2f} to {high:.2f} for every sound of this video.</p>"
    )


def peaks(rows: Sequence[dict[str, float]]) -> str:
    """The peak of every map."""
    header = ("second", "cosine", "x", "y")
    body = [(f"{row['second']:.2f}", f"{row['confidence']:.3f}", f"{row['x']:.0f}", f"{row['y']:.0f}") for row in rows]
    return table(header, body)


def _name(path: str) -> str:
    return html.escape(Path(path).name)
