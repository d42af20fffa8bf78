"""Negatives in time: a clip's own audio at other times, which only a model that tells time apart rejects.

Sources: Korbar et al., "Cooperative learning of audio and video models from self-supervised synchronization", NeurIPS
2018 (AVTS), https://arxiv.org/abs/1807.00230: hard negatives from the same video; Chung et al., "Perfect match",
ICASSP 2019, https://arxiv.org/abs/1809.08001: many of them in one softmax, without a margin. Here they are additional
columns of their own video's row, beside the other clips of the batch. Nothing is gathered over ranks for them, so the
mean over ranks equals one process.

Dimensions: B rows of this rank (all views), K negatives of each, D embedding size, T time cells with C places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from avssl.core.batch import Embeddings
from avssl.core.errors import InputError
from avssl.core.needs import TemporalWindows


def temporal_windows(options: Mapping[str, Any]) -> TemporalWindows | None:
    """Return the windows that the options of an objective ask for; None for one window of each clip."""
    num_views, num_negatives = options["temporal_views"], options["temporal_negatives"]
    windows = TemporalWindows(num_views, num_negatives, tuple(options["temporal_near_seconds"]))
    return windows if windows.num_audio > 1 else None


def others_of(online: Embeddings, windows: TemporalWindows | None) -> Tensor | None:
    """Return the (B, K, D) embeddings of audio at other times, or None if the objective needs none.

    Raises:
        InputError: If there are not ``num_negatives`` of them for each row.
    """
    if windows is None or not windows.num_negatives:
        return None
    if online.other_audio is None or online.other_audio.shape[1] != windows.num_negatives:
        found = "none" if online.other_audio is None else online.other_audio.shape[1]
        raise InputError(
            f"temporal_negatives={windows.num_negatives} needs as many columns of Embeddings.other_audio, got {found}: "
            "give dataset and transform windows=objective.needs.windows and the model the batch's other_audio."
        )
    return online.other_audio


def pooled_other_scores(video: Tensor, others: Tensor) -> Tensor:
    """Return the (B, K) float32 cosines of (B, D) video with (B, K, D) audio of its own clip at other times."""
    with torch.autocast(video.device.type, enabled=False):
        return torch.einsum("bd,bkd->bk", F.normalize(video.float(), dim=1), F.normalize(others.float(), dim=2))


def best_cell_other_scores(video_map: Tensor, others: Tensor, max_over: str) -> Tensor:
    """Return the (B, K) highest cosines of the cells of (B, D, T, H, W) with (B, K, D), as :func:`max_scores` does."""
    with torch.autocast(others.device.type, enabled=False):
        cells = F.normalize(rearrange(video_map.float(), "b d t h w -> b t (h w) d"), dim=3)
        cosines = torch.einsum("btcd,bkd->bktc", cells, F.normalize(others.float(), dim=2))
        # max, not amax: the gradient goes to the first of equal cells.
        return cosines.flatten(2).max(dim=2).values if max_over == "cells" else cosines.max(dim=3).values.mean(dim=2)


def beside(scores_v2a: Tensor, others: Tensor | None) -> Tensor:
    """Return (B, N + M + K) scores of both: the last K columns are each row's own negatives in time."""
    return scores_v2a if others is None else torch.cat([scores_v2a, others], dim=1)


def temporal_statistics(scores_v2a: Tensor, own: Tensor, num_others: int) -> dict[str, Tensor]:
    """Return how often the own audio scores above the clip at other times, and the mean score of those."""
    if not num_others:
        return {}
    others, positive = scores_v2a[:, -num_others:], scores_v2a.gather(1, own[:, None])
    return {
        "accuracy_temporal": (positive > others.amax(dim=1, keepdim=True)).float().mean(),
        "cosine_temporal": others.mean(),
    }
