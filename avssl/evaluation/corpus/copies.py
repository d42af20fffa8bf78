"""Copies of clips among the clips of other recordings: encoded again, resized, louder, cropped or shortened ones.

Near vectors alone do not make a copy: two segments of one recording are as near as a copy is. But a copy shows the same
time, so one of its streams is hardly changed (a crop leaves the audio, another gain leaves the frames), and it differs
from the original by less than the original changes from one window to the next. Four things have to hold for a pair:

- each clip is among the nearest of the other, by windows in the joint space of both streams (k-reciprocal neighbors,
  Zhong et al., 2017, https://arxiv.org/abs/1701.08398);
- both streams agree: in each, the aligned windows are nearer than all but ``BACKGROUND_SHARE`` of unrelated pairs;
- in time order, one stream stays within ``MAX_CHANGE`` of the clips' own change from one window to the next, which is
  about the change that a shift by that share of a step would make;
- that holds over the whole of the shorter clip, except one window.

So a copy that was cut is found if it was cut by a multiple of the time between windows, up to ``MAX_CHANGE`` of it.

Dimensions: N windows, M clips, k neighbors, C vector size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from avssl.core.batch import Modality
from avssl.evaluation.corpus.neighbors import Neighbors

BACKGROUND_SHARE = 0.01
MAX_CHANGE = 0.1
NUM_PARTNERS = 4
"""Nearest clips of a clip that are examined."""
_SAMPLE = 1024
_SAME = 1e-5  # distance of equal vectors: rounding of float32


@dataclass(frozen=True)
class CopyPair:
    """Two clips of which one is a copy of the other."""

    one: int
    """Index of the first clip."""
    other: int
    """Index of the second clip."""
    change: float
    """Distance of the less changed stream, as a share of the clips' own change from one window to the next."""


def find_copies(
    vectors: Mapping[Modality, np.ndarray],
    neighbors: Neighbors,
    windows: Sequence[np.ndarray],
    recordings: np.ndarray,
    seed: int = 0,
) -> list[CopyPair]:
    """Find the pairs of clips of which one is a copy of the other.

    Args:
        vectors: (N, C) float32 of unit length of each modality.
        neighbors: Of every window in the joint space of the modalities, among other recordings.
        windows: Rows of each clip's windows in order of time, M arrays that together hold each row once.
        recordings: (N,) int: equal for windows of the same recording.
        seed: Random seed of the sample of unrelated pairs.

    Returns:
        Pairs in order of their clips.
    """
    clip_of = np.empty(len(recordings), dtype=np.int64)
    for number, rows in enumerate(windows):
        clip_of[rows] = number
    limits = {name: _background(x, recordings, seed) for name, x in vectors.items()}
    steps = {name: np.array([_step(x[rows]) for rows in windows]) for name, x in vectors.items()}
    # Clips of one window do not show how fast they change: take the corpus' median.
    for name, step in steps.items():
        known = step[~np.isnan(step)]
        steps[name] = np.where(np.isnan(step), np.median(known) if len(known) else 0.0, step)
    found = []
    for one, other in _reciprocal(neighbors, clip_of, len(windows)):
        distances = {name: 1 - x[windows[one]] @ x[windows[other]].T for name, x in vectors.items()}
        if any(distances[name].min() > max(limits[name], _SAME) for name in vectors):
            continue
        change = _least_change(distances, limits, {name: (step[one] + step[other]) / 2 for name, step in steps.items()})
        if change <= MAX_CHANGE:
            found.append(CopyPair(one, other, change))
    return found


def originals(pairs: Sequence[CopyPair], lengths: np.ndarray) -> np.ndarray:
    """Return (M,) int64: the original of each copy, and -1 for clips that are no copies.

    Pairs join clips to groups; the original of a group is its longest clip, and the first of equally long ones.

    Args:
        pairs: From :func:`find_copies`.
        lengths: (M,) lengths of the clips.
    """
    count = len(lengths)
    ones, others = [pair.one for pair in pairs], [pair.other for pair in pairs]
    links = coo_matrix((np.ones(len(pairs)), (ones, others)), shape=(count, count))
    groups = connected_components(links, directed=False)[1]
    order = np.lexsort([np.arange(count), -np.asarray(lengths), groups])
    _, firsts = np.unique(groups[order], return_index=True)
    original = order[firsts][groups]
    return np.where(original == np.arange(count), -1, original)


def _background(vectors: np.ndarray, recordings: np.ndarray, seed: int) -> float:
    """Return the distance below which ``BACKGROUND_SHARE`` of the pairs of different recordings lie."""
    sample = np.random.default_rng(seed).permutation(len(vectors))[:_SAMPLE]
    distances = 1 - vectors[sample] @ vectors[sample].T
    others = distances[recordings[sample, None] != recordings[None, sample]]
    return float(np.quantile(others, BACKGROUND_SHARE)) if len(others) else 0.0


def _step(vectors: np.ndarray) -> float:
    """Return the mean distance from one window to the next; NaN of a single window."""
    if len(vectors) < 2:
        return float("nan")
    return float(np.mean(1 - np.einsum("nc,nc->n", vectors[:-1], vectors[1:], dtype=np.float64)))


def _reciprocal(neighbors: Neighbors, clip_of: np.ndarray, num_clips: int) -> list[tuple[int, int]]:
    """Return the pairs of clips that are among the ``NUM_PARTNERS`` nearest of each other, by votes of windows."""
    distances = 1 - neighbors.cosines.astype(np.float64)
    reach = np.where(np.isfinite(distances), distances, 0).max(axis=1, keepdims=True)
    votes = np.where(neighbors.rows >= 0, reach - distances + 1e-9, 0)  # how much nearer than the last neighbor
    voters = np.repeat(clip_of, neighbors.rows.shape[1])
    chosen = clip_of[neighbors.rows.reshape(-1)]
    table = coo_matrix((votes.reshape(-1), (voters, chosen)), shape=(num_clips, num_clips)).tocsr()  # sums the votes
    table.eliminate_zeros()
    table = table.tocoo()
    order = np.lexsort([table.col, -table.data, table.row])
    rows, columns = table.row[order].astype(np.int64), table.col[order].astype(np.int64)
    starts = np.searchsorted(rows, rows)  # of the row's block
    near = np.arange(len(rows)) - starts < NUM_PARTNERS
    keys = rows[near] * num_clips + columns[near]
    mutual = np.intersect1d(keys, columns[near] * num_clips + rows[near])
    return [(int(key // num_clips), int(key % num_clips)) for key in mutual if key // num_clips < key % num_clips]


def _least_change(
    distances: Mapping[Modality, np.ndarray], limits: Mapping[Modality, float], steps: Mapping[Modality, float]
) -> float:
    """Return the smallest change over shifts in time at which both streams agree; infinity if there is none."""
    num_rows, num_columns = next(iter(distances.values())).shape
    least = max(1, min(num_rows, num_columns) - 1)
    best = float("inf")
    for shift in range(-num_columns + least, num_rows - least + 1):
        farthest = {name: float(np.diagonal(x, -shift).max()) for name, x in distances.items()}
        if max(farthest.values()) <= _SAME:  # a copy of every bit, also of clips that never change
            return 0.0
        if all(farthest[name] <= limits[name] for name in farthest):
            best = min([best, *(max(0.0, far) / steps[name] for name, far in farthest.items() if steps[name] > 0)])
    return best
