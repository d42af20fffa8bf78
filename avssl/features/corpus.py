"""Columns about every clip of a feature table: its cluster, the clip it copies, its match and its suspicions.

Example:
    >>> from avssl.features.table import read_feature_table
    >>> found = explore_table(read_feature_table("features.parquet"), num_clusters=2)
    >>> sorted(set(found.clusters.tolist())), len(found.columns(["000000.mp4"])["match"])
    ([0, 1], 1)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.evaluation.corpus import (
    NUM_NEIGHBORS,
    NUM_PROBES,
    Neighbors,
    cluster,
    find_copies,
    match_ranks,
    medoids,
    nearest_neighbors,
    originals,
    suspects,
)
from avssl.features.table import FeatureTable, FeatureTableError

COLUMNS = ("cluster", "duplicate_of", "match", "off_screen", "voice_over")
"""Columns that a manifest gets."""
MOST_CLUSTERS = 100
"""Largest default number of clusters, which a person can still look at."""
_DECIMALS = 4
_SHOWN_MEDOIDS = 3


@dataclass(frozen=True, eq=False)
class Clips:
    """The clips of a table: the windows of one id."""

    ids: np.ndarray
    """(M,) strings, in the order of the table."""
    windows: list[np.ndarray]
    """Rows of each clip's windows, in order of time."""
    recordings: np.ndarray
    """(M,) int64, equal for clips of the same file."""

    @classmethod
    def of(cls, table: FeatureTable) -> Clips:
        """Group the windows of a table by id."""
        number = {name: place for place, name in enumerate(dict.fromkeys(table.ids))}
        clip = np.array([number[name] for name in table.ids], dtype=np.int64)
        order = np.lexsort([table.start_seconds, clip])
        windows = np.split(order, np.cumsum(np.bincount(clip, minlength=len(number)))[:-1])
        recordings = recordings_of(table)[[rows[0] for rows in windows]]
        return cls(np.array(list(number), dtype=object), windows, recordings)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean over the windows of each clip; of vectors, scaled to unit length."""
        order = np.concatenate(self.windows)
        starts = np.cumsum([0, *(len(rows) for rows in self.windows[:-1])])
        counts = np.array([len(rows) for rows in self.windows])
        if values.ndim == 1:
            return np.add.reduceat(values[order], starts) / counts
        means = np.add.reduceat(values[order], starts, axis=0)
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        scaled: np.ndarray = (means / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        return scaled


def recordings_of(table: FeatureTable) -> np.ndarray:
    """Return (N,) int64: a number for the file of each window."""
    number = {path: place for place, path in enumerate(dict.fromkeys(table.paths))}
    return np.array([number[path] for path in table.paths], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Clusters, copies, match and suspects of the M clips of a table."""

    clips: Clips
    """The clips."""
    clusters: np.ndarray
    """(M,) int64 cluster of each clip, 0 is the largest."""
    medoids: list[np.ndarray]
    """Most central clips of each cluster that are no copies, most central first."""
    duplicate_of: np.ndarray
    """(M,) int64 clip that each clip is a copy of, or -1."""
    change: np.ndarray
    """(M,) float64 change of the less changed stream of a copy; NaN for others."""
    match: np.ndarray
    """(M,) float64 mean rank of the clip's own windows among pairs with other files, in [0, 1]; 0.5 is chance."""
    off_screen: np.ndarray
    """(M,) float64 suspicion of an off-screen sound, in [0, 1]."""
    voice_over: np.ndarray
    """(M,) float64 suspicion of a voice-over, in [0, 1]."""

    def columns(self, ids: Iterable[str]) -> dict[str, pa.Array]:
        """Return the new columns of a manifest with these ids; cells of ids that the table lacks are empty."""
        place = {name: number for number, name in enumerate(self.clips.ids)}
        rows = [place.get(name) for name in ids]
        values: dict[str, list[object]] = {
            "cluster": [str(number) for number in self.clusters],
            "duplicate_of": [None if of < 0 else self.clips.ids[of] for of in self.duplicate_of],
        }
        for name in ("match", "off_screen", "voice_over"):
            numbers = getattr(self, name)
            values[name] = [None if math.isnan(number) else str(round(float(number), _DECIMALS)) for number in numbers]
        cells = {name: [None if row is None else column[row] for row in rows] for name, column in values.items()}
        return {name: pa.array(column, pa.string()) for name, column in cells.items()}


def explore_table(
    table: FeatureTable,
    *,
    num_clusters: int | None = None,
    num_probes: int = NUM_PROBES,
    seed: int = 0,
    on_progress: Callable[[str, int, int], object] | None = None,
) -> Corpus:
    """Find clusters, copies, the match of video and audio, and suspects.

    Args:
        table: Embeddings of both modalities.
        num_clusters: Number of clusters; None takes the square root of half the number of clips, at most
            ``MOST_CLUSTERS``.
        num_probes: Lists that a window's neighbors are searched in; see
            :func:`avssl.evaluation.corpus.nearest_neighbors`.
        seed: Random seed.
        on_progress: Called with the name of a step, the number of its windows or clips that are done, and all.

    Raises:
        FeatureTableError: If the table holds features or one modality, or fewer than two files.
        InputError: If there are more clusters than clips.
    """
    if table.info.what != "embeddings":
        raise FeatureTableError(
            f"the table holds {table.info.what}, not one embedding of each window that video and audio can be compared "
            "by. Make one with avssl embed --what embeddings."
        )
    vectors: dict[Modality, np.ndarray] = {"video": table.vectors("video"), "audio": table.vectors("audio")}
    recordings = recordings_of(table)
    if recordings.max(initial=-1) < 1:
        raise FeatureTableError(f"the table has {recordings.max(initial=-1) + 1} files; a corpus needs two at least.")
    clips = Clips.of(table)
    count = default_clusters(len(clips.ids)) if num_clusters is None else num_clusters
    if count > len(clips.ids):
        raise InputError(f"num_clusters ({count}) must be at most {len(clips.ids)}, the number of clips.")

    def search(step: str, x: np.ndarray, groups: np.ndarray) -> Neighbors:
        done = 0

        def on_list(number: int) -> None:
            nonlocal done
            done += number
            if on_progress is not None:
                on_progress(step, done, len(x))

        return nearest_neighbors(x, groups, NUM_NEIGHBORS, num_probes=num_probes, seed=seed, on_progress=on_list)

    joint = _joint(vectors["video"], vectors["audio"])
    near = search("neighbors of windows", joint, recordings)
    del joint
    pairs = find_copies(vectors, near, clips.windows, recordings, seed)
    duplicate_of = originals(pairs, np.array([len(rows) for rows in clips.windows]))
    change = np.full(len(clips.ids), np.nan)
    for pair in pairs:
        change[[pair.one, pair.other]] = np.fmin(change[[pair.one, pair.other]], pair.change)
    match = clips.means(match_ranks(vectors["video"], vectors["audio"], recordings, seed=seed))
    video, audio = clips.means(vectors["video"]), clips.means(vectors["audio"])
    alike = search("neighbors of clips", audio, clips.recordings)
    found = suspects(video, match, clips.recordings, alike, seed)
    clusters, central = _cluster(_joint(video, audio), count, seed, duplicate_of < 0)
    change[duplicate_of < 0] = np.nan
    return Corpus(clips, clusters, central, duplicate_of, change, match, found.off_screen, found.voice_over)


def default_clusters(num_clips: int) -> int:
    """Return the default number of clusters: the square root of half the number of clips."""
    return min(MOST_CLUSTERS, max(1, round(math.sqrt(num_clips / 2))))


def _joint(video: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """Return unit vectors whose cosine is the mean of the cosines of the two modalities."""
    joined: np.ndarray = np.concatenate([video, audio], axis=1)
    joined *= math.sqrt(0.5)
    return joined


def _cluster(vectors: np.ndarray, count: int, seed: int, shown: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the cluster of each clip and the medoids among the shown clips, in order of size, without empty ones."""
    clusters = cluster(vectors, count, seed)
    return clusters, medoids(vectors, clusters, int(clusters.max()) + 1, _SHOWN_MEDOIDS, shown)
