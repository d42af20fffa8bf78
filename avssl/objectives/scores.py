"""Cosines of every pair of a batch, and the softmax over them that contrastive objectives share.

The maximum over cells is EZ-VSL, Mo and Morgado, ECCV 2022, https://arxiv.org/abs/2203.09324, eq. 3; taken in every
frame and averaged over time it is DenseAV's, Hamilton et al., CVPR 2024, https://arxiv.org/abs/2406.05629.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size, C cells of a video map
(C = T * H * W), M clips of silence and noise on this rank. ``scores_v2a`` and ``scores_a2v`` are (B, N)
cosines with this rank's videos (audios) in the rows and the audios (videos) of all ranks in the columns.
Clip i of rank r is column ``r * B + i``. Silence and noise of all ranks follow behind the N columns of
``scores_v2a``: negatives of every video, but no candidates for accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from avssl.core.batch import Embeddings, LossTerms
from avssl.core.distributed import gather_together, own_columns_of_all, own_rows, rank, world_size
from avssl.core.errors import InputError
from avssl.objectives.temporal import temporal_statistics

PairScore = Literal["pooled", "max", "both"]
"""Score of a video and an audio: by pooled embeddings, by the best cell of the video map, or by both."""
MaxOver = Literal["cells", "space"]

# The (rows, N, C) cosines of a chunk of maps take at most 128 MiB in float32.
_MAX_CHUNK_ELEMENTS = 2**25


def check_temperature(temperature: float) -> None:
    """Raise ValueError for a temperature that is not above 0."""
    if not temperature > 0:  # rejects NaN too
        raise InputError(f"temperature ({temperature}) must be above 0; 0.07 is usual.")


def learned_scale(options: Mapping[str, Any]) -> float | None:
    """Return the initial inverse temperature, or None if ``learn_temperature`` is off."""
    check_temperature(options["temperature"])
    return 1 / options["temperature"] if options["learn_temperature"] else None


def check_pooling(pooling: str, max_over: str) -> None:
    """Raise ValueError for an unknown score of a pair."""
    if pooling not in get_args(PairScore):
        raise InputError(f'pooling ({pooling!r}) must be one of "pooled", "max", "both".')
    if max_over not in get_args(MaxOver):
        raise InputError(f'max_over ({max_over!r}) must be "cells" or "space".')


def check_chunk_size(chunk_size: int | None) -> None:
    """Raise ValueError for a number of rows below 1."""
    if chunk_size is not None and chunk_size < 1:
        raise InputError(f"chunk_size ({chunk_size}) must be at least 1, or None for all rows at once.")


def check_pair(video: Tensor, audio: Tensor) -> None:
    """Raise ValueError unless both are (B, D) with B > 0."""
    if video.ndim != 2 or video.shape != audio.shape or len(video) == 0:
        raise InputError(
            "video and audio must hold the same clips in the same order, both (B, D) with B > 0, "
            f"got video {tuple(video.shape)} and audio {tuple(audio.shape)}."
        )


def check_map(video_map: Tensor, audio: Tensor) -> None:
    """Raise ValueError unless they are (B, D, T, H, W) and (B, D) with B > 0."""
    if video_map.ndim != 5 or audio.ndim != 2 or video_map.shape[:2] != audio.shape or video_map.numel() == 0:
        raise InputError(
            "video_map (B, D, T, H, W) and audio (B, D) must hold the same clips in the same order, B > 0, "
            f"got video_map {tuple(video_map.shape)} and audio {tuple(audio.shape)}."
        )


def own_columns(num_rows: int, device: torch.device) -> Tensor:
    """Return the column of each row's own clip, (B,) int64."""
    return torch.arange(num_rows, device=device) + rank() * num_rows


def with_negatives(audios: Tensor, negatives: Tensor | None) -> Tensor:
    """Append the unit vectors of all ranks' (all M, D) silence and noise to the (N, D) unit vectors of clips.

    A zero embedding, which silence may have, stays zero: its cosine with anything is 0.
    """
    if negatives is None:
        return audios
    return torch.cat([audios, F.normalize(negatives.float(), dim=1)])


def pooled_scores(videos: Tensor, audios: Tensor, negatives: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the scores of both directions from embeddings of all ranks, see :func:`gather_together`.

    Args:
        videos: (N, D) of any scale.
        audios: (N, D) of the same clips.
        negatives: (all M, D) silence and noise.
    """
    check_pair(videos, audios)
    # Autocast would multiply in bfloat16: at temperature 0.07 its step of 2^-8 moves a logit by 0.06.
    with torch.autocast(videos.device.type, enabled=False):
        videos = F.normalize(videos.float(), dim=1)
        audios = F.normalize(audios.float(), dim=1)
        return own_rows(videos) @ with_negatives(audios, negatives).T, own_rows(audios) @ videos.T


def max_scores(
    video_map: Tensor, audios: Tensor, max_over: str, negatives: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the maximum cosines of this rank's cells with all audio, and of this rank's audio with the cells of all.

    Maps are too large to gather: each rank scores its own maps against the audio of all ranks, and
    blocks of scores are exchanged. The columns of this rank's audio are its a2v rows::

                  audio of rank 0    rank 1
        rank 0 [        ·              ·      ]  scored by rank 0: its v2a rows
        rank 1 [        ·              ·      ]  scored by rank 1
                        └ transposed: the a2v rows of rank 0

    Args:
        video_map: (B, D, T, H, W) of this rank, of any scale.
        audios: (N, D) of all ranks.
        max_over: See :data:`MaxOver`.
        negatives: (all M, D) silence and noise.
    """
    check_map(video_map, own_rows(audios))
    num_clips = len(audios)
    with torch.autocast(audios.device.type, enabled=False):
        audios = with_negatives(F.normalize(audios.float(), dim=1), negatives)  # (N + all M, D)
        if max_over == "cells":
            scores_v2a = _max_cosines(rearrange(video_map, "b d t h w -> b (t h w) d"), audios)
        else:
            best = _max_cosines(rearrange(video_map, "b d t h w -> (b t) (h w) d"), audios)
            scores_v2a = best.unflatten(0, (len(video_map), -1)).mean(dim=1)
        return scores_v2a, other_direction(scores_v2a[:, :num_clips])


def other_direction(scores_v2a: Tensor) -> Tensor:
    """Return this rank's (B, N) a2v rows, which are columns of the scores of all ranks; see :func:`max_scores`."""
    return own_columns_of_all(scores_v2a).T


def cell_cosines(video_map: Tensor, audios: Tensor) -> Tensor:
    """Return the cosines of this rank's (B, D, T, H, W) cells with the (N, D) audio of all ranks.

    Returns:
        (B, T, N, H * W) float32.

    Raises:
        ValueError: If the shapes do not agree.
    """
    check_map(video_map, own_rows(audios))
    with torch.autocast(audios.device.type, enabled=False):
        audios = F.normalize(audios.float(), dim=1)
        cells = F.normalize(video_map.float(), dim=1).flatten(3).transpose(1, 2)  # (B, T, D, H * W)
        return audios @ cells


def best_cell_scores(
    online: Embeddings, audios: Tensor, pooling: str, max_over: str, negatives: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return :func:`max_scores` of a model's embeddings and the (N, D) audio of all ranks.

    Raises:
        ValueError: If there is no map.
    """
    if online.video_map is None:
        raise InputError(
            f'pooling="{pooling}" needs Embeddings.video_map; call the model with needs_maps=objective.needs.maps.'
        )
    return max_scores(online.video_map, audios, max_over, negatives)


def symmetric_cross_entropy(scores_v2a: Tensor, scores_a2v: Tensor, temperature: float | Tensor) -> Tensor:
    """Return the mean cross-entropy of both directions over this rank's rows, () float32 in nats."""
    own = own_columns(len(scores_v2a), scores_v2a.device)
    v2a = F.cross_entropy(scores_v2a / temperature, own)
    a2v = F.cross_entropy(scores_a2v / temperature, own)
    return (v2a + a2v) / 2


def statistics(scores_v2a: Tensor, scores_a2v: Tensor, *, num_others: int = 0) -> dict[str, Tensor]:
    """Return accuracies and mean cosines, () on the device: reading them would stall the GPU once per step.

    The last ``num_others`` columns of ``scores_v2a`` are negatives in time, see ``temporal.py``.
    """
    own, num_clips = own_columns(len(scores_v2a), scores_v2a.device), scores_a2v.shape[1]
    in_time = temporal_statistics(scores_v2a, own, num_others)
    scores_v2a = scores_v2a[:, : scores_v2a.shape[1] - num_others]
    scores_v2a, silence = scores_v2a[:, :num_clips], scores_v2a[:, num_clips:]
    positive = scores_v2a.gather(1, own[:, None])  # (B, 1)
    num_negatives = max(1, num_clips - 1)
    terms = {
        "accuracy_v2a": (scores_v2a.argmax(dim=1) == own).float().mean(),
        "accuracy_a2v": (scores_a2v.argmax(dim=1) == own).float().mean(),
        "cosine_positive": positive.mean(),
        "cosine_negative": ((scores_v2a.sum(dim=1, keepdim=True) - positive) / num_negatives).mean(),
    }
    return terms | in_time | ({"cosine_silence": silence.mean()} if silence.shape[1] else {})


def one_view(online: Embeddings, number: int, num_clips: int) -> Embeddings:
    """Return one view of each clip from view-major embeddings."""
    rows = slice(number * num_clips, (number + 1) * num_clips)
    video_map, others = (None if x is None else x[rows] for x in (online.video_map, online.other_audio))
    return Embeddings(online.video[rows], online.audio[rows], video_map, other_audio=others)


def view_of_all(x: Tensor, number: int, num_views: int) -> Tensor:
    """Return one view of the clips of all ranks, (W * B, ...) from (W * V * B, ...) by rank, view and clip."""
    return x.unflatten(0, (world_size(), num_views, -1))[:, number].flatten(0, 1)


class Everyone(NamedTuple):
    """Embeddings and files of the clips of all ranks, from one exchange; ranks follow one another."""

    video: Tensor
    """(N, D), of any scale."""
    audio: Tensor
    """(N, D)."""
    groups: Tensor
    """(N,) int64 source files."""
    negatives: Tensor | None
    """(all M, D) silence and noise."""

    @classmethod
    def of(cls, online: Embeddings, groups: Tensor, negative: Tensor | None) -> Everyone:
        """Gather this rank's embeddings, (B,) source files and (M, D) silence and noise."""
        own = [online.video, online.audio, groups] + ([] if negative is None else [negative])
        video, audio, all_groups, *negatives = gather_together(*own)
        return cls(video, audio, all_groups, negatives[0] if negatives else None)

    def view(self, number: int, num_views: int) -> Everyone:
        """Return one view of each clip."""
        video, audio = (view_of_all(x, number, num_views) for x in (self.video, self.audio))
        return Everyone(video, audio, self.groups, self.negatives)


def average(results: Sequence[LossTerms]) -> LossTerms:
    """Return the mean of several losses and of each of their terms."""
    if len(results) == 1:
        return results[0]
    names = results[0].terms
    terms = {name: torch.stack([result.terms[name] for result in results]).mean() for name in names}
    return LossTerms(torch.stack([result.total for result in results]).mean(), terms)


def pooled_and_best(pooled: LossTerms, best: LossTerms) -> LossTerms:
    """Return the mean of the losses of pooled embeddings and of best cells, with each loss under its own name."""
    both = average([pooled, best])
    parts = {"loss_pooled": pooled.terms["loss"], "loss_max": best.terms["loss"]}
    return LossTerms(both.total, {**both.terms, **parts})


def _max_cosines(cells: Tensor, audios: Tensor) -> Tensor:
    """Return the (B, N) maximum cosines of (B, C, D) cells of any scale with (N, D) unit vectors.

    The best cell is found without gradient and only its cosine is computed with it: the (B, N, C)
    cosines are never kept for backward, which is several times faster than their ``amax``.
    """
    best = _best_cells(cells.detach(), audios.detach())  # (B, N)
    chosen = cells.gather(1, best[:, :, None].expand(-1, -1, cells.shape[2]))  # (B, N, D)
    return (F.normalize(chosen.float(), dim=2) * audios).sum(dim=2)


def _best_cells(cells: Tensor, audios: Tensor) -> Tensor:
    """Return the (B, N) int64 cell of each map with the highest cosine with each audio; the first of equals."""
    num_rows = max(1, _MAX_CHUNK_ELEMENTS // (cells.shape[1] * len(audios)))
    chunks = cells.split(num_rows)
    return torch.cat([(audios @ F.normalize(chunk.float(), dim=2).mT).argmax(dim=2) for chunk in chunks])
