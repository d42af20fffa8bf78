"""Cosines of every audio step with every cell of the frame at its time, head by head.

The score of a pair is DenseAV's, Hamilton et al., CVPR 2024, https://arxiv.org/abs/2406.05629: the best head in
its best cell at each moment, averaged over moments. DenseAV has one frame for the whole audio; with several
frames, an audio step is compared with the cells of its own time.

All cosines of all pairs, B x N x K x L x C, do not fit into memory: 400 clips with ten seconds of audio each
have 16 billion. Only the search for the best cell needs them all, and it needs no gradient, so they are
computed in parts and discarded. The cosine at the best place is then computed again, with gradient.

Dimensions: B clips on this rank, N over all ranks, D embedding size, K heads of d = D / K channels, T time
cells with C = H * W places each, S steps of the audio, L = max(T, S) moments.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from avssl.core.errors import InputError
from avssl.core.moments import steps_by_cell, unit_heads

_MAX_PART_ELEMENTS = 2**22
"""Cosines of one head that exist at a time, 16 MiB; larger parts are slower on a CPU."""


def check_maps(video_map: Tensor, audio_map: Tensor) -> None:
    """Raise ValueError unless both are maps of the same clips."""
    if (
        video_map.ndim != 5
        or audio_map.ndim != 3
        or video_map.shape[:2] != audio_map.shape[:2]
        or not video_map.numel()
        or not audio_map.numel()
    ):
        raise InputError(
            "video_map (B, D, T, H, W) and audio_map (B, D, S) must hold the same clips in the same order, B > 0, "
            f"got video_map {tuple(video_map.shape)} and audio_map {tuple(audio_map.shape)}."
        )


def unit_places(video_map: Tensor, num_heads: int) -> Tensor:
    """Return the (T, K, B, C, d) unit vectors of (B, D, T, H, W) cells of any scale."""
    return unit_heads(video_map, num_heads).flatten(4).permute(3, 1, 0, 4, 2).contiguous()


def unit_steps(audio_map: Tensor, num_heads: int) -> Tensor:
    """Return the (B, S, K, d) unit vectors of (B, D, S) steps of any scale."""
    return unit_heads(audio_map, num_heads).permute(0, 3, 1, 2).contiguous()


def moment_scores(places: Tensor, steps: Tensor) -> Tensor:
    """Return the best cosine of every pair at every moment.

    Args:
        places: (T, K, B, C, d) from :func:`unit_places`.
        steps: (N, S, K, d) from :func:`unit_steps`.

    Returns:
        (L, N, B) float32 in [-1, 1]: the maximum over heads and places, with gradient to the first of equals.
    """
    own = steps_by_cell(len(places), steps.shape[1])
    # unbind: the backward of picking cells one by one would fill zeros for all the others, each time.
    return torch.cat([_best_cosines(here, steps[:, now]) for here, now in zip(places.unbind(), own, strict=True)])


def own_cosines(places: Tensor, steps: Tensor) -> Tensor:
    """Return the (L, K, B, C) cosines of (T, K, B, C, d) cells with one audio each, (B, S, K, d)."""
    own = steps_by_cell(len(places), steps.shape[1])
    # (K, B, C, d) x (K, B, d, moments of this cell)
    by_cell = [here @ steps[:, now].permute(2, 0, 3, 1) for here, now in zip(places.unbind(), own, strict=True)]
    return torch.cat([cosines.movedim(3, 0) for cosines in by_cell])


def pair_scores(scores: Tensor, heard: Tensor | None) -> Tensor:
    """Return (B, N) scores of pairs: the mean of (L, N, B) scores over audible moments.

    Args:
        scores: From :func:`moment_scores`.
        heard: (N, L), 1 in audible and 0 in silent moments; None for all audible. Audio that is silent throughout
            has score 0 with every video.
    """
    if heard is None:
        return scores.mean(dim=0).T
    weight = heard.T / heard.sum(dim=1).clamp(min=1)  # (L, N)
    return (scores * weight[:, :, None]).sum(dim=0).T


def _best_cosines(places: Tensor, steps: Tensor) -> Tensor:
    """Return the (l, N, B) best cosines of (K, B, C, d) cells with (N, l, K, d) steps."""
    sounds = steps.transpose(0, 1).flatten(0, 1)  # (l * N, K, d)
    num_rows = max(1, _MAX_PART_ELEMENTS // (places.shape[1] * places.shape[2]))
    parts = []
    for part in sounds.split(num_rows):
        head, place = _best_places(places.detach(), part.detach())
        # The chosen vectors, (part, B, d) twice, are not kept but gathered again in backward.
        parts.append(checkpoint(_cosines_at, places, part, head, place, use_reentrant=False, preserve_rng_state=False))
    return torch.cat(parts).unflatten(0, (steps.shape[1], len(steps)))


def _best_places(places: Tensor, sounds: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (M, B) int64 head and place of the highest cosine of (K, B, C, d) with (M, K, d)."""
    tops = []
    for k, own in enumerate(places):
        cosines = sounds[:, k] @ own.flatten(0, 1).T  # (M, B * C): one large product
        tops.append(cosines.unflatten(1, own.shape[:2]).max(dim=2))
    head = torch.stack([top.values for top in tops]).argmax(dim=0)
    return head, torch.stack([top.indices for top in tops]).gather(0, head[None])[0]


def _cosines_at(places: Tensor, sounds: Tensor, head: Tensor, place: Tensor) -> Tensor:
    """Return the (M, B) float32 cosines of each audio step with each video in one head and place."""
    num_heads, num_clips, num_places, _ = places.shape
    clip = torch.arange(num_clips, device=head.device)
    sound = torch.arange(len(sounds), device=head.device)[:, None]
    # (M * B, d) each; index_select of rows: its backward adds rows, several times faster than that of gather.
    seen = places.flatten(0, 2).index_select(0, ((head * num_clips + clip) * num_places + place).flatten())
    heard = sounds.flatten(0, 1).index_select(0, (sound * num_heads + head).flatten())
    return (seen * heard).sum(dim=1).view(head.shape)
