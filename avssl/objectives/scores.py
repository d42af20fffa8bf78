"""Cosines of every pair of a batch, and the softmax over them that contrastive objectives share.

The maximum over cells is EZ-VSL, Mo and Morgado, ECCV 2022, https://arxiv.org/abs/2203.09324, eq. 3;
taken in every frame and averaged over time it is DenseAV's, Hamilton et al., CVPR 2024,
https://arxiv.org/abs/2406.05629.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size, C cells of a video map
(C = T * H * W), M silences and noises on this rank. ``scores_v2a`` and ``scores_a2v`` are (B, N)
cosines: this rank's videos (sounds) in the rows, everyone's sounds (videos) in the columns. Clip i of
rank r is column ``r * B + i``. Behind the N columns of ``scores_v2a`` are those of everyone's silences
and noises, where there are any: negatives of every video, but no candidates when accuracy is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import Embeddings, LossTerms
from avssl.core.distributed import gather_with_grad, rank
from avssl.core.errors import InputError

Pooling = Literal["pooled", "max", "both"]
MaxOver = Literal["cells", "space"]

# The (rows, N, C) cosines of a chunk of maps take at most 128 MiB in float32.
_MAX_CHUNK_ELEMENTS = 2**25


def check_temperature(temperature: float) -> None:
    """Raises ValueError for a temperature that is not above 0."""
    if not temperature > 0:  # so that NaN is refused too
        raise InputError(f"temperature ({temperature}) must be above 0; 0.07 is usual.")


def check_pooling(pooling: str, max_over: str) -> None:
    """Raises ValueError for an unknown way to score a pair."""
    if pooling not in get_args(Pooling):
        raise InputError(f'pooling ({pooling!r}) must be one of "pooled", "max", "both".')
    if max_over not in get_args(MaxOver):
        raise InputError(f'max_over ({max_over!r}) must be "cells" or "space".')


def check_chunk_size(chunk_size: int | None) -> None:
    """Raises ValueError for a number of rows below 1."""
    if chunk_size is not None and chunk_size < 1:
        raise InputError(f"chunk_size ({chunk_size}) must be at least 1, or None for all rows at once.")


def check_negative_sounds(count: int) -> None:
    """Raises ValueError for a number of which half cannot be silence and half noise."""
    if count < 0 or count % 2:
        raise InputError(f"negative_sounds ({count}) must be even and >= 0: half are silence, half noise.")


def check_pair(video: Tensor, audio: Tensor) -> None:
    """Raises ValueError unless both are (B, D) with B > 0."""
    if video.ndim != 2 or video.shape != audio.shape or len(video) == 0:
        raise InputError(
            "video and audio must hold the same clips in the same order, both (B, D) with B > 0, "
            f"got video {tuple(video.shape)} and audio {tuple(audio.shape)}."
        )


def check_map(video_map: Tensor, audio: Tensor) -> None:
    """Raises ValueError unless they are (B, D, T, H, W) and (B, D) with B > 0."""
    if video_map.ndim != 5 or audio.ndim != 2 or video_map.shape[:2] != audio.shape or video_map.numel() == 0:
        raise InputError(
            "video_map (B, D, T, H, W) and audio (B, D) must hold the same clips in the same order, B > 0, "
            f"got video_map {tuple(video_map.shape)} and audio {tuple(audio.shape)}."
        )


def own_columns(num_rows: int, device: torch.device) -> Tensor:
    """(B,) int64: the column of each row's own clip."""
    return torch.arange(num_rows, device=device) + rank() * num_rows


def with_negatives(sounds: Tensor, negative: Tensor | None) -> Tensor:
    """(N, D) unit vectors of clips, and behind them those of (M, D) silences and noises of every rank.

    A zero embedding, which silence may give, stays zero: its cosine with anything is 0.
    """
    if negative is None:
        return sounds
    return torch.cat([sounds, gather_with_grad(F.normalize(negative.float(), dim=1))])


def pooled_scores(video: Tensor, audio: Tensor, negative: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cosines of pooled embeddings: (B, D) twice, and maybe (M, D), to both directions' scores."""
    check_pair(video, audio)
    # Autocast would multiply in bfloat16: at temperature 0.07 its step of 2^-8 moves a logit by 0.06.
    with torch.autocast(video.device.type, enabled=False):
        video = F.normalize(video.float(), dim=1)
        audio = F.normalize(audio.float(), dim=1)
        return video @ with_negatives(gather_with_grad(audio), negative).T, audio @ gather_with_grad(video).T


def max_scores(
    video_map: Tensor, audio: Tensor, max_over: str, negative: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Maximum cosine over cells: (B, D, T, H, W), (B, D) and maybe (M, D) to both directions' scores.

    Maps are too big to gather: a rank scores its own maps against everyone's sounds, and the
    blocks of scores are gathered. Their columns that belong to this rank's sounds are its a2v rows::

                  sounds of rank 0   rank 1
        rank 0 [        ·              ·      ]  scored by rank 0: its v2a rows
        rank 1 [        ·              ·      ]  scored by rank 1
                        └ transposed: the a2v rows of rank 0
    """
    check_map(video_map, audio)
    with torch.autocast(audio.device.type, enabled=False):
        sounds = with_negatives(gather_with_grad(F.normalize(audio.float(), dim=1)), negative)
        if max_over == "cells":
            scores_v2a = _max_cosines(video_map.flatten(2).transpose(1, 2), sounds)
        else:
            frames = video_map.permute(0, 2, 3, 4, 1).flatten(2, 3)  # (B, T, H * W, D)
            scores_v2a = _max_cosines(frames.flatten(0, 1), sounds).unflatten(0, frames.shape[:2]).mean(dim=1)
        return scores_v2a, other_direction(scores_v2a)


def other_direction(scores_v2a: Tensor) -> Tensor:
    """(B, N): this rank's a2v rows, which are columns of what all ranks have scored; see :func:`max_scores`."""
    return gather_with_grad(scores_v2a)[:, own_columns(len(scores_v2a), scores_v2a.device)].T


def cell_cosines(video_map: Tensor, audio: Tensor) -> Tensor:
    """(B, T, N, H * W) float32: every cell of this rank's maps (B, D, T, H, W) with the sounds (B, D) of all ranks.

    Raises:
        ValueError: If the shapes do not agree.
    """
    check_map(video_map, audio)
    with torch.autocast(audio.device.type, enabled=False):
        sounds = gather_with_grad(F.normalize(audio.float(), dim=1))
        return sounds @ F.normalize(video_map.float(), dim=1).flatten(3).transpose(1, 2)


def best_cell_scores(
    online: Embeddings, pooling: str, max_over: str, negative: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """:func:`max_scores` of a model's embeddings.

    Raises:
        ValueError: If there is no map.
    """
    if online.video_map is None:
        raise InputError(
            f'pooling="{pooling}" needs Embeddings.video_map; call the model with needs_maps=objective.needs_maps.'
        )
    return max_scores(online.video_map, online.audio, max_over, negative)


def symmetric_cross_entropy(scores_v2a: Tensor, scores_a2v: Tensor, temperature: float | Tensor) -> Tensor:
    """() float32: the mean of both directions over this rank's rows, in nats."""
    own = own_columns(len(scores_v2a), scores_v2a.device)
    v2a = F.cross_entropy(scores_v2a / temperature, own)
    a2v = F.cross_entropy(scores_a2v / temperature, own)
    return (v2a + a2v) / 2


def statistics(scores_v2a: Tensor, scores_a2v: Tensor) -> dict[str, Tensor]:
    """() tensors on the device: reading them here would stall the GPU once per step."""
    own, num_clips = own_columns(len(scores_v2a), scores_v2a.device), scores_a2v.shape[1]
    scores_v2a, silence = scores_v2a[:, :num_clips], scores_v2a[:, num_clips:]
    positive = scores_v2a.gather(1, own[:, None])  # (B, 1)
    num_negatives = max(1, num_clips - 1)
    terms = {
        "accuracy_v2a": (scores_v2a.argmax(dim=1) == own).float().mean(),
        "accuracy_a2v": (scores_a2v.argmax(dim=1) == own).float().mean(),
        "cosine_positive": positive.mean(),
        "cosine_negative": ((scores_v2a.sum(dim=1, keepdim=True) - positive) / num_negatives).mean(),
    }
    return terms | ({"cosine_silence": silence.mean()} if silence.shape[1] else {})


def one_view(online: Embeddings, number: int, num_clips: int) -> Embeddings:
    """One view of each clip; views come one after the other."""
    rows = slice(number * num_clips, (number + 1) * num_clips)
    video_map = None if online.video_map is None else online.video_map[rows]
    return Embeddings(online.video[rows], online.audio[rows], video_map)


def average(results: Sequence[LossTerms]) -> LossTerms:
    """The mean of several losses and of each of their terms."""
    if len(results) == 1:
        return results[0]
    names = results[0].terms
    terms = {name: torch.stack([result.terms[name] for result in results]).mean() for name in names}
    return LossTerms(torch.stack([result.total for result in results]).mean(), terms)


def pooled_and_best(pooled: LossTerms, best: LossTerms) -> LossTerms:
    """The mean of the two ways to score, each loss kept under its own name."""
    both = average([pooled, best])
    parts = {"loss_pooled": pooled.terms["loss"], "loss_max": best.terms["loss"]}
    return LossTerms(both.total, {**both.terms, **parts})


def _max_cosines(cells: Tensor, sounds: Tensor) -> Tensor:
    """(B, C, D) cells of any scale and (N, D) unit vectors to (B, N) maxima.

    The best cell is found without history and only its cosine is computed with it: the (B, N, C)
    cosines are never kept for backward, which is several times faster than ``amax`` of them.
    """
    best = _best_cells(cells.detach(), sounds.detach())  # (B, N)
    chosen = cells.gather(1, best[:, :, None].expand(-1, -1, cells.shape[2]))  # (B, N, D)
    return (F.normalize(chosen.float(), dim=2) * sounds).sum(dim=2)


def _best_cells(cells: Tensor, sounds: Tensor) -> Tensor:
    """(B, N) int64: the cell of each map with the highest cosine with each sound; the first of equals."""
    num_rows = max(1, _MAX_CHUNK_ELEMENTS // (cells.shape[1] * len(sounds)))
    chunks = cells.split(num_rows)
    return torch.cat([(sounds @ F.normalize(chunk.float(), dim=2).mT).argmax(dim=2) for chunk in chunks])
