"""Text of temporal labels: the cells of columns such as ``events``, ``audio_events`` and ``visual_events``."""

from __future__ import annotations

from collections.abc import Iterable

Event = tuple[str, float, float]
"""Label, start and stop in seconds after the start of the row."""


def events_text(events: Iterable[Event]) -> str | None:
    """Return the cell of some events, or None if there is none.

    Example:
        >>> events_text([("Speech", 0, 8), ("Blender", 8, 10)])
        'Speech 0-8|Blender 8-10'
    """
    return "|".join(f"{label} {start:g}-{stop:g}" for label, start, stop in events) or None


def labels_text(labels: Iterable[str]) -> str | None:
    """Return the cell of a column of labels, each once and in their order, or None if there is none."""
    return "|".join(dict.fromkeys(labels)) or None
