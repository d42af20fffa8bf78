"""Page of the clusters of a manifest's rows: sizes, labels and the most central clips of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avssl.core.manifest import Manifest
from avssl.features.search_page import Moment, cards
from avssl.media import MediaError, MediaLimits, open_media
from avssl.reports.html_page import write_page

_SHOWN_LABELS = 5


def write_cluster_page(
    path: Path | str,
    title: str,
    manifest: Manifest,
    clusters: np.ndarray,
    central: Sequence[np.ndarray],
    facts: Sequence[tuple[str, str]],
    *,
    label_column: str = "label",
    limits: MediaLimits | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> None:
    """Write the page; links to files are relative to the folder of ``path``.

    Args:
        path: The HTML file.
        title: Title of the page.
        manifest: The rows.
        clusters: (N,) cluster of each row, in order of size; negative for a row without one.
        central: Rows to show of each cluster, most central first.
        facts: Lines of the overview.
        label_column: Column whose most frequent labels are named; the manifest need not have it.
        limits: Limits on the files that are opened for thumbnails.
        on_progress: Called with (clusters that are done, all).
    """
    folder = Path(path).resolve().parent
    groups: list[dict[str, Any]] = []
    for number, rows in enumerate(central):
        members = np.flatnonzero(clusters == number)
        groups.append(
            {
                "title": f"Cluster {number}: {len(members)} clips",
                "note": _labels(manifest, members, label_column),
                "moments": cards([_moment(manifest, int(row), limits) for row in rows], folder, limits),
            }
        )
        if on_progress is not None:
            on_progress(number + 1, len(central))
    section = {
        "title": f"Clusters ({len(central)})",
        "note": "The largest cluster first, by its most central clips.",
        "groups": groups,
    }
    write_page(path, "corpus.html", title=title, note="Made by avssl cluster.", facts=facts, sections=[section])


def _labels(manifest: Manifest, members: np.ndarray, column: str) -> str:
    """Return the most frequent labels of a cluster as text; "" without labels."""
    if column not in manifest:
        return ""
    counts = Counter(label for text in manifest[column][members] for label in (text or "").split("|") if label)
    names = ", ".join(f"{label} {count}" for label, count in counts.most_common(_SHOWN_LABELS))
    others = len(counts) - _SHOWN_LABELS
    return f"{column}: {names}{f' and {others} others' if others > 0 else ''}" if counts else ""


def _moment(manifest: Manifest, row: int, limits: MediaLimits | None) -> Moment:
    """Return a row as a card; its thumbnail is its middle frame."""
    file = manifest.file(row)
    start, stop = manifest.value(row, "start_seconds"), manifest.value(row, "stop_seconds")
    if start is None or stop is None:
        start, stop = 0.0, 0.0
        try:
            with open_media(file, limits=limits) as reader:
                start, stop = reader.info.video_start_seconds or 0.0, reader.info.video_stop_seconds or 0.0
        except MediaError:  # the card says why
            pass
    return Moment(file, manifest["id"][row], float(start), float(stop), manifest["id"][row])
