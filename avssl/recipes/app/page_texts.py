"""Texts of the app's page, as HTML from the template ``app.html``, which escapes names of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avssl.media import MediaError
from avssl.recipes.app.heatmap_video import VideoAnalysis
from avssl.reports.html_page import page_macros

_ADVICE = {
    "no_audio": "Choose other audio for it: silence, noise or that of another file.",
    "no_video": "Choose a file with video.",
}
_OTHER_ADVICE = "Choose another file, or convert this one to mp4 (H.264 and AAC) first."


def failure(error: Exception) -> str:
    """Return the message of an error with advice."""
    if isinstance(error, MediaError):
        advice = _ADVICE.get(error.reason, _OTHER_ADVICE)
        return _macro("failure", Path(error.path).name, error.found, advice)
    return _macro("failure", "", str(error), "")


def message(text: str) -> str:
    """Return plain text as a message."""
    return _macro("message", text)


def footnote(text: str) -> str:
    """Return plain text in small letters."""
    return _macro("footnote", text)


def verdict(analysis: VideoAnalysis) -> str:
    """Return a message about the latest audio."""
    peak = max(analysis.peaks, key=lambda peak: peak["confidence"])
    return _macro("verdict", peak, analysis)


def scores(analysis: VideoAnalysis) -> str:
    """Return a table with a row for every audio that was tried."""
    rows = [
        (
            score.name,
            f"{score.peak['confidence']:.3f}",
            f"{score.mean_confidence:.3f}",
            f"{score.peak['second']:.2f} s",
            f"{score.peak['x']:.0f}",
            f"{score.peak['y']:.0f}",
        )
        for score in analysis.scores
    ]
    return _macro("scores", rows, analysis.scale)


def peaks(peaks: Sequence[dict[str, float]]) -> str:
    """Return a table with the peak of every map."""
    header = ("second", "cosine", "x", "y")
    rows = [(f"{p['second']:.2f}", f"{p['confidence']:.3f}", f"{p['x']:.0f}", f"{p['y']:.0f}") for p in peaks]
    return str(page_macros("pieces.html").table(header, rows))


def _macro(name: str, *arguments: object) -> str:
    return str(getattr(page_macros("app.html"), name)(*arguments))
