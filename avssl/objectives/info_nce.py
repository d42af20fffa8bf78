"""Cross-modal InfoNCE, on pooled embeddings or on the best cell of the video map.

Sources: van den Oord et al., 2018, https://arxiv.org/abs/1807.03748, eq. 4, made symmetric over
the two modalities as in CLIP, https://arxiv.org/abs/2103.00020, fig. 3. The maximum over cells is
EZ-VSL, Mo and Morgado, ECCV 2022, https://arxiv.org/abs/2203.09324, eq. 3; taken in every frame and
averaged over time it is DenseAV's, Hamilton et al., CVPR 2024, https://arxiv.org/abs/2406.05629.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size, C cells of a video map
(C = T * H * W). ``scores_v2a`` and ``scores_a2v`` are (B, N) cosines: this rank's videos (sounds)
in the rows, everyone's sounds (videos) in the columns. Clip i of rank r is column ``r * B + i``.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..batch import BatchIndex, Embeddings, LossTerms
from ..distributed import gather_with_grad, rank
from .objective import Objective

Pooling = Literal["pooled", "max", "both"]
MaxOver = Literal["cells", "space"]

# The (rows, N, C) cosines of a chunk of maps take at most 128 MiB in float32.
_MAX_CHUNK_ELEMENTS = 2**25


def info_nce(video: Tensor, audio: Tensor, temperature: float) -> Tensor:
    """Mean of the video-to-audio and audio-to-video cross-entropies, in nats.

    The negatives of a clip are the other clips of the global batch. Gradients, after DDP's mean
    over ranks, equal those of one process that sees the whole batch.

    Args:
        video: ``(B, D)`` projections of any scale; normalized here.
        audio: ``(B, D)`` projections of the same clips in the same order.
        temperature: Softmax temperature, > 0. 0.07 follows MoCo and AVID.

    Returns:
        ``()`` float32, also under autocast; ``log N`` when all embeddings coincide. With several
        ranks it is the mean over this rank's rows, and the mean over ranks is the global loss.

    Raises:
        ValueError: If ``video`` and ``audio`` are not two ``(B, D)`` of one shape with B > 0, or
            ``temperature`` is not above 0.

    Example:
        >>> video, audio = torch.randn(8, 128), torch.randn(8, 128)
        >>> info_nce(video, audio, temperature=0.07)
    """
    _check_temperature(temperature)
    return _cross_entropy(*_pooled_scores(video, audio), temperature)


def max_info_nce(video_map: Tensor, audio: Tensor, temperature: float, max_over: MaxOver = "cells") -> Tensor:
    """InfoNCE whose score of a pair is the maximum cosine of the sound with any cell of the video.

    Only the cell that sounds is pulled to the sound: what makes localization sharp.

    Args:
        video_map: ``(B, D, T, H, W)`` projections of every cell, of any scale; normalized here.
        audio: ``(B, D)`` projections of the same clips in the same order.
        temperature: Softmax temperature, > 0; 0.03 in EZ-VSL.
        max_over: "cells": one maximum over space and time. "space": one in every time cell, averaged
            over time, so that the map of every frame is trained.

    Returns:
        ``()`` float32, as :func:`info_nce`, which it equals for maps of one cell.

    Raises:
        ValueError: If the shapes are others or do not agree, or ``temperature`` is not above 0.
    """
    _check_temperature(temperature)
    return _cross_entropy(*_max_scores(video_map, audio, max_over), temperature)


class InfoNCE(Objective):
    """Symmetric cross-modal InfoNCE over the global batch.

    Other clips of the same source file count as negatives, like any other.

    Args:
        temperature: Softmax temperature, > 0.
        pooling: What scores a pair. "pooled": the cosine of the pooled embeddings. "max": the
            maximum over cells of the video map. "both": the mean of the two losses.
        max_over: Over what the maximum is taken; see :func:`max_info_nce`.

    Terms, means over this rank's rows: ``loss``; ``accuracy_v2a`` and ``accuracy_a2v`` in [0, 1],
    how often the clip's own counterpart scores highest in the batch; ``cosine_positive`` and
    ``cosine_negative`` in [-1, 1]. "both" adds ``loss_pooled`` and ``loss_max``, and its other
    terms are the means of the two.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, temperature: float = 0.07, pooling: Pooling = "pooled", max_over: MaxOver = "cells") -> None:
        super().__init__()
        _check_temperature(temperature)
        if pooling not in get_args(Pooling):
            raise ValueError(f'pooling ({pooling!r}) must be one of "pooled", "max", "both".')
        if max_over not in get_args(MaxOver):
            raise ValueError(f'max_over ({max_over!r}) must be "cells" or "space".')
        self.temperature = temperature
        self.pooling = pooling
        self.max_over = max_over
        self.needs_maps = pooling != "pooled"

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, pooling={self.pooling!r}, max_over={self.max_over!r}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """The loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is more than one view of a clip, or a map is wanted and missing.
        """
        if len(online.video) != len(index):
            raise ValueError(
                f"InfoNCE takes one view of each clip, got {len(online.video)} embeddings of {len(index)} clips. "
                "A second view would be a negative of the first."
            )
        if self.pooling == "pooled":
            return self._score(*_pooled_scores(online.video, online.audio))
        if online.video_map is None:
            raise ValueError(
                f'InfoNCE(pooling="{self.pooling}") needs Embeddings.video_map; '
                "call the model with needs_maps=objective.needs_maps."
            )
        best = self._score(*_max_scores(online.video_map, online.audio, self.max_over))
        if self.pooling == "max":
            return best
        return _mean_of(self._score(*_pooled_scores(online.video, online.audio)), best)

    def _score(self, scores_v2a: Tensor, scores_a2v: Tensor) -> LossTerms:
        total = _cross_entropy(scores_v2a, scores_a2v, self.temperature)
        return LossTerms(total, {"loss": total.detach(), **_statistics(scores_v2a.detach(), scores_a2v.detach())})


def _pooled_scores(video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of pooled embeddings: (B, D) twice to (B, N) twice."""
    if video.ndim != 2 or video.shape != audio.shape or len(video) == 0:
        raise ValueError(
            "video and audio must hold the same clips in the same order, both (B, D) with B > 0, "
            f"got video {tuple(video.shape)} and audio {tuple(audio.shape)}."
        )
    # Autocast would multiply in bfloat16: at temperature 0.07 its step of 2^-8 moves a logit by 0.06.
    with torch.autocast(video.device.type, enabled=False):
        video = F.normalize(video.float(), dim=1)
        audio = F.normalize(audio.float(), dim=1)
        return video @ gather_with_grad(audio).T, audio @ gather_with_grad(video).T


def _max_scores(video_map: Tensor, audio: Tensor, max_over: str) -> tuple[Tensor, Tensor]:
    """Maximum cosine over cells: (B, D, T, H, W) and (B, D) to (B, N) twice.

    Maps are too big to gather: a rank scores its own maps against everyone's sounds, and the
    blocks of scores are gathered. Their columns that belong to this rank's sounds are its a2v rows::

                  sounds of rank 0   rank 1
        rank 0 [        ·              ·      ]  scored by rank 0: its v2a rows
        rank 1 [        ·              ·      ]  scored by rank 1
                        └ transposed: the a2v rows of rank 0
    """
    if video_map.ndim != 5 or audio.ndim != 2 or video_map.shape[:2] != audio.shape or video_map.numel() == 0:
        raise ValueError(
            "video_map (B, D, T, H, W) and audio (B, D) must hold the same clips in the same order, B > 0, "
            f"got video_map {tuple(video_map.shape)} and audio {tuple(audio.shape)}."
        )
    with torch.autocast(audio.device.type, enabled=False):
        sounds = gather_with_grad(F.normalize(audio.float(), dim=1))
        if max_over == "cells":
            scores_v2a = _max_cosines(video_map.flatten(2).transpose(1, 2), sounds)
        else:
            frames = video_map.permute(0, 2, 3, 4, 1).flatten(2, 3)  # (B, T, H * W, D)
            scores_v2a = _max_cosines(frames.flatten(0, 1), sounds).unflatten(0, frames.shape[:2]).mean(dim=1)
        return scores_v2a, gather_with_grad(scores_v2a)[:, _own_columns(scores_v2a)].T


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


def _own_columns(scores: Tensor) -> Tensor:
    """(B,) int64: the column of each row's own clip."""
    return torch.arange(len(scores), device=scores.device) + rank() * len(scores)


def _cross_entropy(scores_v2a: Tensor, scores_a2v: Tensor, temperature: float) -> Tensor:
    own = _own_columns(scores_v2a)
    v2a = F.cross_entropy(scores_v2a / temperature, own)
    a2v = F.cross_entropy(scores_a2v / temperature, own)
    return (v2a + a2v) / 2


def _statistics(scores_v2a: Tensor, scores_a2v: Tensor) -> dict[str, Tensor]:
    """() tensors on the device: reading them here would stall the GPU once per step."""
    own = _own_columns(scores_v2a)
    positive = scores_v2a.gather(1, own[:, None])  # (B, 1)
    num_negatives = max(1, scores_v2a.shape[1] - 1)
    return {
        "accuracy_v2a": (scores_v2a.argmax(dim=1) == own).float().mean(),
        "accuracy_a2v": (scores_a2v.argmax(dim=1) == own).float().mean(),
        "cosine_positive": positive.mean(),
        "cosine_negative": ((scores_v2a.sum(dim=1, keepdim=True) - positive) / num_negatives).mean(),
    }


def _mean_of(pooled: LossTerms, best: LossTerms) -> LossTerms:
    terms = {name: (pooled.terms[name] + best.terms[name]) / 2 for name in pooled.terms}
    parts = {"loss_pooled": pooled.terms["loss"], "loss_max": best.terms["loss"]}
    return LossTerms((pooled.total + best.total) / 2, {**terms, **parts})


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:  # so that NaN is refused too
        raise ValueError(f"temperature ({temperature}) must be above 0; 0.07 is usual.")
