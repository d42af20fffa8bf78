"""Calibrated match of the two streams of a window: the rank of its own pair among pairs with other recordings.

A cosine between video and audio has no scale of its own: it depends on the model and on how special a sound is. The
share of unrelated pairs that match less well has one: 0.5 is chance, and 1 is better than all.

Dimensions: N windows, C vector size, S windows of the background.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avssl.evaluation.corpus.clustering import BLOCK_ROWS

NUM_OTHERS = 1024
"""Windows of the background: a rank among them has a standard error of 0.016 at most."""


def match_ranks(
    video: np.ndarray, audio: np.ndarray, recordings: np.ndarray, *, num_others: int = NUM_OTHERS, seed: int = 0
) -> np.ndarray:
    """Return (N,) float64: the rank in [0, 1] of each window's own cosine among those with other recordings.

    The video is compared with the audio of a random sample of windows and the audio with their video; the rank is the
    mean of the two. NaN where the sample has no other recording.

    Args:
        video: (N, C) float32 of unit length.
        audio: (N, C) float32 of unit length, in the same space.
        recordings: (N,) int: equal for windows of the same recording, which are left out of the background.
        num_others: S, at most.
        seed: Random seed of the sample.
    """
    sample = np.random.default_rng(seed).permutation(len(video))[:num_others]
    others = torch.from_numpy(np.ascontiguousarray(recordings[sample]))
    other_video, other_audio = (torch.from_numpy(x[sample]).T.contiguous() for x in (video, audio))
    ranks = []
    for first in range(0, len(video), BLOCK_ROWS):
        here = slice(first, first + BLOCK_ROWS)
        v, a = torch.from_numpy(video[here]), torch.from_numpy(audio[here])
        own = (v * a).sum(dim=1, keepdim=True)
        is_other = torch.from_numpy(np.ascontiguousarray(recordings[here]))[:, None] != others
        ranks.append((_rank(own, v @ other_audio, is_other) + _rank(own, a @ other_video, is_other)) / 2)
    return torch.cat(ranks).double().numpy()


def _rank(own: Tensor, scores: Tensor, counts: Tensor) -> Tensor:
    """Return the share of the counted scores below the own one; equal ones count half."""
    below, equal, all_counted = (_count(x) for x in ((scores < own) & counts, (scores == own) & counts, counts))
    return (below + equal / 2) / all_counted


def _count(mask: Tensor) -> Tensor:
    """Return the number of true cells of each row; NumPy's count is several times as fast as PyTorch's sum."""
    return torch.from_numpy(np.count_nonzero(mask.numpy(), axis=1)).float()
