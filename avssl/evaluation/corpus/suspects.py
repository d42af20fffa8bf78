"""Suspects among clips: audio of something that is not shown, and audio laid over any frames.

Clips that sound alike usually look alike. Two things can be told from the clips that sound most like a clip:

- **off-screen**: this clip's video and audio do not match, and its frames do not resemble the frames of the clips that
  sound like it. The sound has a usual look, and this is another.
- **voice-over**: in the clips that sound alike the streams do not match either, and neither do their frames resemble
  one another: music or narration, which goes with any frames.

A model can tell only sounds apart that it has learned to tell apart, and vectors of whole frames cannot say where in
the frame a sound belongs. The scores rank clips for a person to look at; they prove nothing.

Dimensions: M clips, k neighbors, C vector size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avssl.evaluation.corpus.neighbors import Neighbors

NUM_NEIGHBORS = 10
"""Clips that sound most like a clip."""
_SAMPLE = 1024
_BLOCK_CLIPS = 2**12


@dataclass(frozen=True, eq=False)
class Suspects:
    """Scores of all clips, each in [0, 1]; higher is more suspect."""

    off_screen: np.ndarray
    """(M,) float64: (1 - match) * (1 - look)."""
    voice_over: np.ndarray
    """(M,) float64: product of the means of 1 - match, 1 - look and 1 - shared look over the clip and its neighbors."""
    look: np.ndarray
    """(M,) float64: rank of the clip's likeness to the frames of its neighbors among unrelated pairs of clips; 0.5 is
    chance."""


def suspects(
    video: np.ndarray, match: np.ndarray, recordings: np.ndarray, neighbors: Neighbors, seed: int = 0
) -> Suspects:
    """Score clips as off-screen sounds and as voice-overs.

    Args:
        video: (M, C) float32 of unit length, one vector per clip.
        match: (M,) rank of the clip's own pair, of :func:`avssl.evaluation.corpus.pairing.match_ranks`; NaN counts
            as chance.
        recordings: (M,) int: equal for clips of the same recording.
        neighbors: Clips of other recordings that sound alike, k >= 1.
        seed: Random seed of the sample of unrelated pairs.
    """
    background = _background(video, recordings, seed)
    match = np.where(np.isnan(match), 0.5, match)
    look, shared = (np.full(len(video), 0.5) for _ in range(2))
    for first in range(0, len(video), _BLOCK_CLIPS):
        here = slice(first, first + _BLOCK_CLIPS)
        rows = neighbors.rows[here]
        is_there = rows >= 0
        theirs = video[rows]  # (B, k, C)
        look[here] = _mean_rank(np.einsum("bc,bkc->bk", video[here], theirs), is_there, background)
        pairs = np.einsum("bkc,blc->bkl", theirs, theirs)
        counts = (
            is_there[:, :, None] & is_there[:, None, :] & (recordings[rows][:, :, None] != recordings[rows][:, None])
        )
        size = pairs.shape[1] ** 2
        shared[here] = _mean_rank(pairs.reshape(-1, size), counts.reshape(-1, size), background)
    parts = [_with_neighbors(1 - x, neighbors.rows) for x in (match, look, shared)]
    return Suspects((1 - match) * (1 - look), parts[0] * parts[1] * parts[2], look)


def _background(video: np.ndarray, recordings: np.ndarray, seed: int) -> np.ndarray:
    """Return the sorted cosines of pairs of clips of different recordings."""
    sample = np.random.default_rng(seed).permutation(len(video))[:_SAMPLE]
    cosines = video[sample] @ video[sample].T
    return np.sort(cosines[recordings[sample, None] != recordings[None, sample]])


def _mean_rank(cosines: np.ndarray, counts: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return the mean rank of the counted cosines of each row in the background; 0.5 where none counts."""
    ranks = np.searchsorted(background, cosines) / max(1, len(background))
    number = counts.sum(axis=1)
    return np.where(number > 0, (ranks * counts).sum(axis=1) / np.maximum(number, 1), 0.5)


def _with_neighbors(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the mean of each clip's value and of the mean over its neighbors."""
    is_there = rows >= 0
    theirs = (values[rows] * is_there).sum(axis=1) / np.maximum(is_there.sum(axis=1), 1)
    return np.where(is_there.any(axis=1), (values + theirs) / 2, values)
