"""Cross-modal InfoNCE, on pooled embeddings or on the best cell of the video map.

Sources: van den Oord et al., 2018, https://arxiv.org/abs/1807.03748, eq. 4, made symmetric over
the two modalities as in CLIP, https://arxiv.org/abs/2103.00020, fig. 3, with its learned temperature.
The maximum over cells is from EZ-VSL and DenseAV, see ``scores.py``. Silence and noise as negatives are the
idea of Juanola et al., BMVC 2025 (SSL-SaN), https://arxiv.org/abs/2508.21761; here they are additional columns.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size, V views of a clip, M clips of
silence and noise on this rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together, own_rows
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Cosine, Count, CountOrZero, PositiveOrZero, Seconds, ShareBelowOne, Temperature, checked
from avssl.objectives.blocked import RowLosses, blocked_cross_entropy
from avssl.objectives.equivariance import with_equivariance
from avssl.objectives.exclusion import ExcludedColumns, Exclusion
from avssl.objectives.objective import Objective
from avssl.objectives.scores import (
    Everyone,
    MaxOver,
    PairScore,
    average,
    best_cell_scores,
    check_chunk_size,
    check_pair,
    check_pooling,
    check_temperature,
    learned_scale,
    max_scores,
    one_view,
    own_columns,
    pooled_and_best,
    pooled_scores,
    statistics,
    symmetric_cross_entropy,
    with_negatives,
)
from avssl.objectives.temporal import (
    beside,
    best_cell_other_scores,
    others_of,
    pooled_other_scores,
    temporal_windows,
)


def info_nce(video: Tensor, audio: Tensor, temperature: Temperature, *, chunk_size: Count | None = None) -> Tensor:
    """Return the mean of the video-to-audio and audio-to-video cross-entropies, in nats.

    The negatives of a clip are the other clips of the global batch. Gradients, after DDP averages them
    over ranks, equal those of one process that sees the whole batch.

    Args:
        video: ``(B, D)`` projections of any scale; normalized here.
        audio: ``(B, D)`` projections of the same clips in the same order.
        temperature: Softmax temperature, > 0. 0.07 follows MoCo and AVID.
        chunk_size: Rows whose N scores exist at a time; None for all. The result is equal up to float32 rounding, and
            memory grows with N instead of B * N.

    Returns:
        ``()`` float32, also under autocast; ``log N`` when all embeddings coincide. With several
        ranks it is the mean over this rank's rows, and the mean over ranks is the global loss.

    Raises:
        ValueError: If ``video`` and ``audio`` are not two ``(B, D)`` of one shape with B > 0, or
            ``temperature`` is not above 0, or ``chunk_size`` is below 1.

    Example:
        >>> info_nce(torch.eye(4), torch.eye(4), temperature=1.0)  # own cosine 1, three others 0: log(1 + 3 / e)
        tensor(0.7437)
    """
    check_temperature(temperature)
    check_chunk_size(chunk_size)
    videos, audios = gather_together(video, audio)
    if chunk_size is None:
        return symmetric_cross_entropy(*pooled_scores(videos, audios), temperature)
    return _chunked(videos, audios, None, temperature, None, None, chunk_size).total


def max_info_nce(video_map: Tensor, audio: Tensor, temperature: Temperature, max_over: MaxOver) -> Tensor:
    """Return InfoNCE whose score of a pair is the maximum cosine of the audio with any cell of the video.

    Only the best cell is pulled to the audio, which makes localization sharp.

    Args:
        video_map: ``(B, D, T, H, W)`` projections of every cell, of any scale; normalized here.
        audio: ``(B, D)`` projections of the same clips in the same order.
        temperature: Softmax temperature, > 0; 0.03 in EZ-VSL.
        max_over: "cells": one maximum over space and time. "space": one maximum per time cell, averaged over time, so
            that the map of every frame is trained.

    Returns:
        ``()`` float32, as :func:`info_nce`, which it equals for maps of one cell.

    Raises:
        ValueError: If the shapes are wrong or differ, or ``temperature`` is not above 0.

    Example:
        >>> cells = torch.eye(4)[:, :, None, None, None].expand(4, 4, 1, 7, 7)
        >>> max_info_nce(cells, torch.eye(4), temperature=1.0, max_over="space")  # log(1 + 3 / e)
        tensor(0.7437)
    """
    check_temperature(temperature)
    return symmetric_cross_entropy(*max_scores(video_map, gather_together(audio)[0], max_over), temperature)


@checked
class InfoNCE(Objective):
    """Symmetric cross-modal InfoNCE over the global batch.

    Args:
        temperature: Softmax temperature, > 0; the initial one if it is learned.
        pooling: Score of a pair: the cosine of the pooled embeddings ("pooled"), the maximum over cells of the video
            map ("max", for sharp heat maps), or the mean of the losses of both.
        max_over: The maximum is over all cells ("cells", as in EZ-VSL), or over each frame and averaged over time
            ("space").
        learn_temperature: Learn the temperature; it never falls below 0.01.
        chunk_size: Rows of the score matrix that exist at a time, to save memory with large batches; needs pooling
            "pooled". None computes all rows at once.
        exclude_same_file: Do not use clips of the same source file as negatives of each other.
        exclude_near_duplicates: Exclude negatives whose cosine with the clip's own positive, in the same modality, is
            above this value. Choose it near 1 and watch ``excluded_share``: an untrained model may find everything
            alike.
        exclude_hardest: Share of each clip's negatives to exclude, those with the highest scores, in [0, 1).
        within_modal: Weight of InfoNCE between two views of the video and of the audio; above 0 each clip is augmented
            twice.
        equivariant: Weight of the equivariant term (EquiAV): the embedding of each augmented clip is predicted from the
            clip without augmentation and what was done to it. Above 0 each clip passes the encoders twice.
        negative_sounds: Clips of silence and noise, half each, added to the audio of each process as negatives of every
            video; even. They are never excluded.
        temporal_negatives: Windows of each clip's own audio at other times, added as negatives of its video, half of
            them near (hard) and half far (easy); for models that tell whether audio is in sync. Never excluded.
        temporal_views: Windows of each clip at different times; above 1 each window is a pair of its own, and the
            others of its file are negatives in both directions. With within_modal, two windows are the two views.
        temporal_near_seconds: Smallest and largest distance of near windows, in seconds; far ones are further away.

    Terms, means over this rank's rows: ``loss``; ``accuracy_v2a`` and ``accuracy_a2v`` in [0, 1], how often the clip's
    own counterpart has the highest score of the batch; ``cosine_positive`` and ``cosine_negative`` in [-1, 1].
    Pooling "both" adds ``loss_pooled`` and ``loss_max``, and its other terms are the means of the two. Exclusions add
    ``excluded_share``, two views ``loss_cross`` and ``loss_within``, a learned temperature ``temperature``, an
    equivariant term ``loss_equivariant_video`` and ``loss_equivariant_audio``. Negative sounds add ``cosine_silence``
    (their mean score) and otherwise affect ``loss`` only. Temporal negatives add ``accuracy_temporal``, how often the
    own audio scores above all of them, and ``cosine_temporal``, their mean score.

    Raises:
        ValueError: If an argument is out of range, or two do not go together.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, same = torch.arange(4), avssl.Embeddings(torch.ones(4, 8), torch.ones(4, 8))
        >>> InfoNCE(pooling="pooled")(same, None, BatchIndex(row, row, row)).total  # log 4
        tensor(1.3863)
    """

    def __init__(
        self,
        temperature: Temperature = 0.07,
        pooling: PairScore = "both",
        max_over: MaxOver = "space",
        *,
        learn_temperature: bool = False,
        chunk_size: Count | None = None,
        exclude_same_file: bool = False,
        exclude_near_duplicates: Cosine | None = None,
        exclude_hardest: ShareBelowOne = 0.0,
        within_modal: PositiveOrZero = 0.0,
        equivariant: PositiveOrZero = 0.0,
        negative_sounds: CountOrZero = 0,
        temporal_negatives: CountOrZero = 0,
        temporal_views: Count = 1,
        temporal_near_seconds: tuple[Seconds, Seconds] = (0.2, 0.6),
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        check_pooling(pooling, max_over)
        check_chunk_size(chunk_size)
        if chunk_size is not None and pooling != "pooled":
            raise InputError(
                f'chunk_size ({chunk_size}) needs pooling="pooled", not "{pooling}": '
                "the best cells of all pairs are scored whole. Leave out one of the two."
            )
        _check_temporal(temporal_negatives, temporal_views, chunk_size, exclude_same_file, within_modal)
        self.temperature, self.learn_temperature = temperature, learn_temperature
        self.pooling, self.max_over = pooling, max_over
        self.chunk_size, self.within_modal, self.equivariant = chunk_size, within_modal, equivariant
        self.exclusion = Exclusion(exclude_same_file, exclude_near_duplicates, exclude_hardest)
        self.needs = self.needs_of(
            {
                "temperature": temperature,
                "pooling": pooling,
                "learn_temperature": learn_temperature,
                "within_modal": within_modal,
                "equivariant": equivariant,
                "negative_sounds": negative_sounds,
                "temporal_negatives": temporal_negatives,
                "temporal_views": temporal_views,
                "temporal_near_seconds": temporal_near_seconds,
            }
        )

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(
            num_views=max(2 if options["within_modal"] else 1, options["temporal_views"]),
            windows=temporal_windows(options),
            maps=options["pooling"] != "pooled",
            logit_scale=learned_scale(options),
            originals=options["equivariant"] > 0,
            negative_sounds=options["negative_sounds"],
        )

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, pooling={self.pooling!r}, max_over={self.max_over!r}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If the number of views is wrong, or a map, a learned temperature or negative sounds are missing.
        """
        if len(online.video) != self.needs.num_views * len(index):
            views = "one view" if self.needs.num_views == 1 else f"{self.needs.num_views} views"
            raise InputError(
                f"InfoNCE takes {views} of each clip, got {len(online.video)} embeddings of {len(index)} clips. "
                "A further view would be a negative of the first; within_modal > 0 takes two, temporal_views as many."
            )
        temperature = self._temperature_of(online)
        num_views = self.needs.num_views
        everyone = Everyone.of(online, index.group, self.negatives_of(online))
        each = [everyone.view(number, num_views) for number in range(num_views)]
        # Windows at different times are clips of one batch: each is a negative of the others of its file.
        if self.needs.windows is not None and self.needs.windows.num_views > 1:
            batches = [(online, everyone)]
        else:
            batches = [(one_view(online, number, len(index)), view) for number, view in enumerate(each)]
        result = average([self._cross_modal(*batch, temperature) for batch in batches])
        if self.within_modal:
            result = self._with_within(result, each[0], each[1], temperature)
        result = with_equivariance(result, online, self.equivariant, self.temperature)
        if self.learn_temperature:
            result = LossTerms(result.total, {**result.terms, "temperature": torch.as_tensor(temperature).detach()})
        return result

    def _temperature_of(self, online: Embeddings) -> float | Tensor:
        if not self.learn_temperature:
            return self.temperature
        if online.logit_scale is None:
            raise InputError(
                "InfoNCE(learn_temperature=True) needs Embeddings.logit_scale: give the model logits=LogitScale(...)."
            )
        return 1 / online.logit_scale

    def _cross_modal(self, view: Embeddings, everyone: Everyone, temperature: float | Tensor) -> LossTerms:
        others = others_of(view, self.needs.windows)
        if self.pooling == "pooled":
            return self._pooled(everyone, temperature, others)
        excluded = self._excluded(everyone)
        scores = best_cell_scores(view, everyone.audio, self.pooling, self.max_over, everyone.negatives)
        in_time = None
        if others is not None and view.video_map is not None:
            in_time = best_cell_other_scores(view.video_map, others, self.max_over)
        best = _whole(scores, temperature, *excluded, in_time)
        if self.pooling == "max":
            return best
        return pooled_and_best(self._pooled(everyone, temperature, others), best)

    def _pooled(self, everyone: Everyone, temperature: float | Tensor, others: Tensor | None = None) -> LossTerms:
        video, audio, _, negatives = everyone
        excluded = self._excluded(everyone)
        if self.chunk_size is None:
            in_time = None if others is None else pooled_other_scores(own_rows(video), others)
            return _whole(pooled_scores(video, audio, negatives), temperature, *excluded, in_time)
        return _chunked(video, audio, negatives, temperature, *excluded, self.chunk_size)

    def _excluded(self, everyone: Everyone) -> tuple[ExcludedColumns | None, ExcludedColumns | None]:
        """Return the exclusions of both directions; the columns of video rows are audio, and vice versa."""
        video, audio, groups, _ = everyone
        return self.exclusion.among(audio, groups), self.exclusion.among(video, groups)

    def _with_within(
        self, cross: LossTerms, first: Everyone, second: Everyone, temperature: float | Tensor
    ) -> LossTerms:
        video = self._pooled(Everyone(first.video, second.video, first.groups, None), temperature).total
        audio = self._pooled(Everyone(first.audio, second.audio, first.groups, None), temperature).total
        within = (video + audio) / 2
        total = cross.total + self.within_modal * within
        parts = {"loss": total.detach(), "loss_cross": cross.total.detach(), "loss_within": within.detach()}
        return LossTerms(total, {**cross.terms, **parts})


def _check_temporal(
    negatives: int, views: int, chunk_size: int | None, exclude_same_file: bool, within_modal: float
) -> None:
    """Raise InputError if windows at several times do not go together with another option."""
    if negatives and chunk_size is not None:
        raise InputError(
            f"temporal_negatives ({negatives}) are columns of one row each, which chunk_size ({chunk_size}) "
            "does not compute. Leave out one of the two."
        )
    if views > 1 and exclude_same_file:
        raise InputError(
            f"temporal_views ({views}) makes windows of a file negatives of each other, and exclude_same_file leaves "
            "them out. Leave out one of the two."
        )
    if within_modal and views > 2:
        raise InputError(f"temporal_views ({views}) must be 1 or 2 with within_modal, which compares two views.")


def _whole(
    scores: tuple[Tensor, Tensor],
    temperature: float | Tensor,
    excluded_v2a: ExcludedColumns | None,
    excluded_a2v: ExcludedColumns | None,
    in_time: Tensor | None = None,
) -> LossTerms:
    """Return the loss and its terms from the scores of all pairs, and of videos with their own audio at other times."""
    num_others = 0 if in_time is None else in_time.shape[1]
    scores = beside(scores[0], in_time), scores[1]
    if excluded_v2a is None or excluded_a2v is None:
        total = symmetric_cross_entropy(*scores, temperature)
        return LossTerms(
            total, {"loss": total.detach(), **statistics(*(s.detach() for s in scores), num_others=num_others)}
        )
    masks = [side.mask(s.detach()) for side, s in zip((excluded_v2a, excluded_a2v), scores, strict=True)]
    v2a, a2v = (s.masked_fill(mask, -torch.inf) for s, mask in zip(scores, masks, strict=True))
    total = symmetric_cross_entropy(v2a, a2v, temperature)
    plain = statistics(*(s.detach() for s in scores), num_others=num_others)
    counted = statistics(v2a.detach(), a2v.detach(), num_others=num_others)
    accuracies = {name: counted[name] for name in ("accuracy_v2a", "accuracy_a2v")}
    num_negatives = max(1, a2v.shape[1] - 1)
    share = torch.stack([mask.sum(dim=1).float().mean() for mask in masks]).mean() / num_negatives
    return LossTerms(total, {"loss": total.detach(), **plain, **accuracies, "excluded_share": share})


def _chunked(
    videos: Tensor,
    audios: Tensor,
    negatives: Tensor | None,
    temperature: float | Tensor,
    excluded_v2a: ExcludedColumns | None,
    excluded_a2v: ExcludedColumns | None,
    chunk_size: Count,
) -> LossTerms:
    """Return the loss and terms of :func:`_whole` on pooled embeddings, ``chunk_size`` rows of scores at a time."""
    check_pair(videos, audios)
    with torch.autocast(videos.device.type, enabled=False):
        videos, audios = F.normalize(videos.float(), dim=1), F.normalize(audios.float(), dim=1)
        video, audio = own_rows(videos), own_rows(audios)
        if not isinstance(temperature, Tensor):  # filled on the device: a copy of a number would let the host wait
            temperature = torch.full((), temperature, device=video.device)
        scale = 1 / temperature.float()
        own = own_columns(len(video), video.device)
        candidates = with_negatives(audios, negatives)
        others = candidates[len(audios) :].detach()
        v2a = blocked_cross_entropy(
            video, candidates, scale, own, excluded_v2a, chunk_size=chunk_size, num_others=len(others)
        )
        a2v = blocked_cross_entropy(audio, videos, scale, own, excluded_a2v, chunk_size=chunk_size)
        total = (v2a.loss + a2v.loss) / 2
        terms = {"loss": total.detach(), **_chunked_statistics(video.detach(), audios.detach(), own, v2a, a2v)}
        if len(others):
            terms["cosine_silence"] = video.detach().mean(dim=0) @ others.mean(dim=0)
    if excluded_v2a is not None:
        terms["excluded_share"] = (v2a.excluded_share + a2v.excluded_share) / 2
    return LossTerms(total, terms)


def _chunked_statistics(
    video: Tensor, audios: Tensor, own: Tensor, v2a: RowLosses, a2v: RowLosses
) -> dict[str, Tensor]:
    """Return :func:`statistics` without the score matrix: a row's sum is its product with the sum of the columns."""
    positive = (video * audios[own]).sum(dim=1)
    num_negatives = max(1, len(audios) - 1)
    return {
        "accuracy_v2a": v2a.accuracy,
        "accuracy_a2v": a2v.accuracy,
        "cosine_positive": positive.mean(),
        "cosine_negative": ((video @ audios.sum(dim=0) - positive) / num_negatives).mean(),
    }
