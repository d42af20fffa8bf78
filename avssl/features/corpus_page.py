"""Write the findings about a corpus as a page: clusters, copies, pairs that do not match, and suspects.

The page is one file without scripts; its players open the files beside it, as those of ``avssl search``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avssl.core.names import name_from_text
from avssl.features.corpus import Corpus
from avssl.features.search_page import Moment, MomentGroup, cards
from avssl.features.table import FeatureTable
from avssl.media import MediaLimits
from avssl.reports.html_page import write_page

_SHOWN_LABELS = 5


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    """Heading."""
    note: str
    """Text below the heading."""
    groups: list[MomentGroup] = field(default_factory=list)
    """Clips; each group may have a heading of its own."""


@dataclass(frozen=True)
class CorpusView:
    """A corpus with everything that its page shows.

    Args:
        table: The table.
        corpus: What was found in it.
        folder: Folder of the table's files.
        labels: (M,) label of each clip, several separated by "|"; empty or None where there is none.
        num_examples: Largest number of clips or pairs in a list.
    """

    table: FeatureTable
    corpus: Corpus
    folder: Path
    labels: Sequence[str | None]
    num_examples: int

    def sections(self) -> Iterator[Section]:
        """Yield the parts of the page in order."""
        clusters = [self._cluster(number) for number in range(len(self.corpus.medoids))]
        yield Section(
            f"Clusters ({len(clusters)})",
            "Clips whose video and audio are alike together, largest cluster first, by its most central clips. "
            "Manifest column: cluster.",
            clusters,
        )
        copies = self._copies()
        yield Section(
            f"Copies ({(self.corpus.duplicate_of >= 0).sum()})",
            "Clips that show the same time of the same recording in another file: encoded again, resized, louder, "
            "cropped. Each beside its original, the surest first. The change compares the less changed stream with the "
            "clip's own change from one window to the next. Manifest column: duplicate_of.",
            copies[: self.num_examples],
        )
        yield Section(
            "Video and audio that do not match",
            "The clips whose own pair ranks lowest among pairs with other files. A rank of 0.5 is chance, 1 is better "
            "than all. Manifest column: match.",
            self._ranked(-self.corpus.match, "match {:.2f}", self.corpus.match),
        )
        yield Section(
            "Suspected off-screen audio",
            "The streams do not match, and the frames are unlike those of clips that sound alike. From 0 to 1. "
            "Manifest column: off_screen.",
            self._ranked(self.corpus.off_screen, "off-screen {:.2f}"),
        )
        yield Section(
            "Suspected voice-over or music",
            "In the clips that sound like this one the streams do not match either, and their frames are unlike one "
            "another. From 0 to 1. Manifest column: voice_over.",
            self._ranked(self.corpus.voice_over, "voice-over {:.2f}"),
        )

    def facts(self) -> list[tuple[str, str]]:
        """Return lines of the overview."""
        corpus, table = self.corpus, self.table
        seconds = sum(table.stop_seconds[rows].max() - table.start_seconds[rows].min() for rows in corpus.clips.windows)
        return [
            ("clips", f"{len(corpus.clips.ids)} of {len(set(corpus.clips.recordings))} files, {seconds / 3600:.2f} h"),
            ("windows", f"{len(table)}, one every {table.info.every_seconds:g} s"),
            ("clusters", str(len(corpus.medoids))),
            ("copies", str((corpus.duplicate_of >= 0).sum())),
            ("match, median", f"{np.nanmedian(corpus.match):.2f} (chance: 0.50)"),
            ("match below chance", f"{(corpus.match < 0.5).sum()} clips"),
        ]

    def _moment(self, clip: int, headline: str) -> Moment:
        """Return a clip as a card; its thumbnail is its middle frame."""
        rows, table = self.corpus.clips.windows[clip], self.table
        times = float(table.start_seconds[rows].min()), float(table.stop_seconds[rows].max())
        return Moment(self.folder / name_from_text(table.paths[rows[0]]), self.corpus.clips.ids[clip], *times, headline)

    def _cluster(self, number: int) -> MomentGroup:
        members = np.flatnonzero(self.corpus.clusters == number)
        counts = Counter(label for clip in members for label in (self.labels[int(clip)] or "").split("|") if label)
        names = ", ".join(f"{label} {count}" for label, count in counts.most_common(_SHOWN_LABELS))
        others = len(counts) - _SHOWN_LABELS
        note = f"labels: {names}{f' and {others} others' if others > 0 else ''}" if counts else ""
        central = enumerate(self.corpus.medoids[number])
        moments = [self._moment(clip, "central" if place else "most central") for place, clip in central]
        match = np.nanmean(self.corpus.match[members])
        return MomentGroup(f"Cluster {number}: {len(members)} clips, mean match {match:.2f}", note, moments)

    def _copies(self) -> list[MomentGroup]:
        corpus = self.corpus
        copies = np.flatnonzero(corpus.duplicate_of >= 0)
        return [
            MomentGroup(
                "",
                "",
                [
                    self._moment(corpus.duplicate_of[copy], "original"),
                    self._moment(copy, f"copy, change {corpus.change[copy]:.3f}"),
                ],
            )
            for copy in copies[np.argsort(corpus.change[copies], kind="stable")]
        ]

    def _ranked(self, scores: np.ndarray, text: str, shown: np.ndarray | None = None) -> list[MomentGroup]:
        """Return the clips with the highest scores as one group; those without a score are left out."""
        shown = scores if shown is None else shown
        order = np.argsort(-scores, kind="stable")[: self.num_examples]
        order = order[~np.isnan(scores[order])]
        moments = [
            self._moment(clip, f"{number} · {text.format(shown[clip])}") for number, clip in enumerate(order, start=1)
        ]
        return [MomentGroup("", "", moments)] if moments else []


def write_corpus_page(
    path: Path | str,
    title: str,
    view: CorpusView,
    limits: MediaLimits | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> None:
    """Write the page; links to files are relative to the folder of ``path``.

    Args:
        path: The HTML file.
        title: Title of the page.
        view: What it shows.
        limits: Limits on the files that are opened for thumbnails.
        on_progress: Called with (groups of clips that are done, all).
    """
    folder = Path(path).resolve().parent
    sections = list(view.sections())
    total, done = sum(len(section.groups) for section in sections), 0
    found: list[dict[str, Any]] = []
    for section in sections:
        groups = []
        for group in section.groups:
            groups.append({"title": group.title, "note": group.note, "moments": cards(group.moments, folder, limits)})
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        found.append({"title": section.title, "note": section.note, "groups": groups})
    note = (
        f"Made by avssl explore from vectors of the model {view.table.info.weights_hash}. Scores rank clips to look at."
    )
    write_page(path, "corpus.html", title=title, note=note, facts=view.facts(), sections=found)
