"""Find the rows of a manifest that show the same recording, whatever names its file has.

A copy of a file, or a link to it, must not be trained on if the file is held out.

Dimensions: N rows of all manifests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from avssl.core.manifest import Manifest, is_url
from avssl.core.names import name_from_text
from avssl.data.content import same_content

_SOURCE = "source://"

_TOUCHING_SECONDS = 1e-3
"""Rows that overlap by less only touch: their times are rounded in a CSV."""


class Recordings:
    """The recordings behind the rows of some manifests, which are numbered one manifest after the other.

    Files are the same if they are one file on the disk or have equal content
    (:func:`avssl.data.content.same_content`). Clips of a prepared corpus are known by their sources' content, where
    ``avssl prepare`` stored it, and else by their sources' names.
    """

    def __init__(self, *manifests: Manifest) -> None:
        number: dict[str, int] = {}  # of each file, by its place

        def numbers(places: Iterable[str]) -> list[int]:
            return [number.setdefault(place, len(number)) for place in places]

        videos = numbers(place for manifest in manifests for place in _video_places(manifest))
        sounds = numbers(place for manifest in manifests for place in _sound_places(manifest))
        firsts = np.array(same_content([_local_file(place) for place in number]), dtype=np.int64)
        self.groups = _number_pairs(firsts[videos], firsts[sounds])
        """(N,) int64: equal for rows of the same recording."""
        by_name = _number_pairs(np.array(videos), np.array(sounds))
        self.num_copies = int(by_name.max(initial=-1) - self.groups.max(initial=-1))
        """Number of further names of recordings that have several."""
        self._spans = np.concatenate([_spans(manifest) for manifest in manifests])

    def repeated(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return those of some rows that show time which other rows show too."""
        spans: dict[int, list[np.ndarray]] = defaultdict(list)
        candidates = rows[np.isin(self.groups[rows], self.groups[others])]
        wanted = np.unique(self.groups[candidates])
        for row in others[np.isin(self.groups[others], wanted)]:
            spans[int(self.groups[row])].append(self._spans[row])
        overlap = [self._overlaps(row, spans[int(self.groups[row])]) for row in candidates]
        return candidates[np.array(overlap, dtype=bool)]

    def _overlaps(self, row: int, spans: Sequence[np.ndarray]) -> bool:
        start, stop = self._spans[row]
        return any(min(stop, end) - max(start, begin) > _TOUCHING_SECONDS for begin, end in spans)


def file_names(manifest: Manifest) -> list[str]:
    """Return the names of the rows' files; of a prepared corpus, those of the sources."""
    if _is_prepared(manifest):
        return list(map(str, manifest["source_path" if "source_path" in manifest else "id"]))
    return list(map(str, manifest["path"]))


def _is_prepared(manifest: Manifest) -> bool:
    return "shard_header_bytes" in manifest


def _video_places(manifest: Manifest) -> list[str]:
    """Return what identifies the rows' files: a path on this machine, a URL, or a name or hash of a source."""
    names = file_names(manifest)
    if not _is_prepared(manifest):
        return [_place(manifest, name) for name in names]
    if "source_file_hash" in manifest:
        names = [known or name for name, known in zip(names, manifest["source_file_hash"], strict=True)]
    return [_SOURCE + name for name in names]


def _sound_places(manifest: Manifest) -> list[str]:
    places = _video_places(manifest)
    if _is_prepared(manifest) or "audio_path" not in manifest:
        return places
    return [
        _place(manifest, audio) if audio else place for place, audio in zip(places, manifest["audio_path"], strict=True)
    ]


def _place(manifest: Manifest, name: str) -> str:
    return f"{manifest.place}/{name if is_url(manifest.place) else name_from_text(name)}"


def _local_file(place: str) -> Path | None:
    return None if is_url(place) else Path(place)


def _number_pairs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return (N,) int64, equal where both numbers are."""
    return np.unique(np.stack([one, other]), axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _spans(manifest: Manifest) -> np.ndarray:
    """Return the (N, 2) start and stop of the rows in their files."""
    prefix = "source_" if "shard_header_bytes" in manifest else ""
    columns = []
    for name, empty in ((f"{prefix}start_seconds", -np.inf), (f"{prefix}stop_seconds", np.inf)):
        column = manifest[name].astype(float) if name in manifest else np.full(len(manifest), np.nan)
        columns.append(np.where(np.isnan(column), empty, column))
    return np.stack(columns, axis=1)
