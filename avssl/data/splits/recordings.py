"""Find the rows of a manifest that show the same recording, whatever names its file has.

A copy of a file, or a link to it, must not be trained on if the file is held out.

Dimensions: N rows of all manifests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avssl.core.manifest import Manifest, is_url
from avssl.core.names import name_from_text
from avssl.data.content import same_content

_SOURCE, _BETWEEN = "source", "\0"

_TOUCHING_SECONDS = 1e-3
"""Rows that overlap by less only touch: their times are rounded in a CSV."""


class Recordings:
    """The recordings behind the rows of some manifests, which are numbered one manifest after the other.

    Files are the same if they are one file on the disk or have equal content
    (:func:`avssl.data.content.same_content`). Clips of a prepared corpus are known by their sources' content, where
    ``avssl prepare`` stored it, and else by their sources' names.
    """

    def __init__(self, *manifests: Manifest) -> None:
        roots: dict[str, int] = {}
        videos = [_video_places(manifest, roots) for manifest in manifests]
        sounds = [_sound_places(manifest, roots) for manifest in manifests]
        places = pa.chunked_array([chunk for each in videos + sounds for chunk in each.chunks], pa.string())
        parts = places.dictionary_encode().chunks
        numbers = np.concatenate([np.empty(0, np.int64), *(part.indices.to_numpy() for part in parts)])
        video, sound = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
        firsts = _firsts(parts[-1].dictionary if parts else pa.array([], pa.string()), list(roots))
        self.groups = _number_pairs(firsts[video], firsts[sound])
        """(N,) int64: equal for rows of the same recording."""
        by_name = _number_pairs(video, sound)
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


def file_names(manifest: Manifest) -> pa.ChunkedArray:
    """Return the (N,) names of the rows' files; of a prepared corpus or an archive, those of the sources."""
    return pc.coalesce(*(manifest.table[name] for name in manifest.name_columns if name in manifest))


def _video_places(manifest: Manifest, roots: dict[str, int]) -> pa.ChunkedArray:
    """Return what identifies the rows' files: the number of a root and a name, or a name or hash of a source."""
    names = file_names(manifest)
    if not manifest.is_packed:
        return _joined(str(roots.setdefault(manifest.place, len(roots))), names)
    if "source_file_hash" in manifest:
        known = manifest.table["source_file_hash"]
        names = pc.if_else(pc.not_equal(known, "").fill_null(False), known, names)
    return _joined(_SOURCE, names)


def _sound_places(manifest: Manifest, roots: dict[str, int]) -> pa.ChunkedArray:
    places = _video_places(manifest, roots)
    if manifest.is_packed or "audio_path" not in manifest:
        return places
    audio = manifest.table["audio_path"]
    own = _joined(str(roots[manifest.place]), audio)
    return pc.if_else(pc.not_equal(audio, "").fill_null(False), own, places)


def _joined(first: str, names: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(first, names, _BETWEEN)


def _firsts(places: pa.Array, roots: Sequence[str]) -> np.ndarray:
    """Return for each place the number of the first one with the same content; sources in shards are not compared."""
    numbers = np.arange(len(places))
    local = np.flatnonzero(pc.invert(pc.starts_with(places, _SOURCE + _BETWEEN)).to_numpy(zero_copy_only=False))
    files = [_local_file(place, roots) for place in places.take(pa.array(local)).to_pylist()]
    numbers[local] = local[np.array(same_content(files), dtype=np.int64)]
    return numbers


def _local_file(place: str, roots: Sequence[str]) -> Path | None:
    root, _, name = place.partition(_BETWEEN)
    return None if is_url(roots[int(root)]) else Path(roots[int(root)]) / name_from_text(name)


def _number_pairs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return (N,) int64, equal where both numbers are."""
    pairs = one * (int(other.max(initial=0)) + 1) + other
    return np.unique(pairs, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _spans(manifest: Manifest) -> np.ndarray:
    """Return the (N, 2) start and stop of the rows in their files."""
    prefix = "source_" if "shard_header_bytes" in manifest else ""
    columns = []
    for name, empty in ((f"{prefix}start_seconds", -np.inf), (f"{prefix}stop_seconds", np.inf)):
        column = manifest[name].astype(float) if name in manifest else np.full(len(manifest), np.nan)
        columns.append(np.where(np.isnan(column), empty, column))
    return np.stack(columns, axis=1)
