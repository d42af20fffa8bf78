"""DenseAV: every audio step against every cell of the frames, in heads that specialize in kinds of sounds.

Source: Hamilton et al., CVPR 2024, https://arxiv.org/abs/2406.05629: the score of a pair, the contrast over
the batch, and the regularizers of its program with their default weights, so a weight means what it means there.
Differences: embeddings are compared by their cosine in each head; clips have several frames, so an audio step is
compared with the cells of its own time (with one frame, DenseAV's case, these are all cells); regularizers use
every place and moment, not random ones, of a clip's own pair, or of its video with the next clip's audio; silent
moments are compared with the clip's own video, not with all of the batch; negative sounds are whole clips, not spliced
into the audio; the floor of a learned scale is 1, the paper's, not the initial scale; images are not mixed.

Dimensions: B clips on this rank, N over all ranks, D embedding size, K heads of d = D / K channels,
T time cells with C places each, S audio steps, L = max(T, S) moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together, rank, world_size
from avssl.core.errors import InputError
from avssl.core.moments import matched_moments
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Count, CountOrZero, Decibels, PositiveOrZero, Seconds, Temperature, checked
from avssl.objectives.dense_scores import (
    check_maps,
    moment_scores,
    own_cosines,
    pair_scores,
    unit_places,
    unit_steps,
)
from avssl.objectives.objective import Objective
from avssl.objectives.scores import (
    learned_scale,
    other_direction,
    own_columns,
    pooled_scores,
    statistics,
    symmetric_cross_entropy,
)
from avssl.objectives.temporal import beside, others_of, pooled_other_scores, temporal_windows


@checked
class DenseAV(Objective):
    """Symmetric cross-entropy over the global batch of scores that are dense in space, time and heads.

    The score of a pair is the mean over audible moments of the highest cosine of any head at any place. The
    contrastive loss of the pairs is regularized by a weighted sum of

    - overlap: the product of the absolute cosines of two heads at one place of a clip's own pair, mean over
      all pairs of heads, so that only one head is active at a place;
    - non-negativity: the square of negative cosines of a video with the next clip's audio, as unrelated
      embeddings should be orthogonal and not opposite;
    - smoothness: the square of the change of every cosine of a clip's own pair from one moment to the next;
    - silence: the absolute cosines of a clip's own pair, mean over the silent moments of the batch;
    - negative audio: the squares of the cosines with clips of silence and noise;
    - scale floor: the square of the logarithm of a learned scale below 1 (a temperature above 1).

    Args:
        num_heads: Groups of channels that specialize in different kinds of sounds; divides model.head.out_features.
        temperature: Softmax temperature, > 0; the initial one if it is learned.
        learn_temperature: Learn the temperature; it never falls below 0.01.
        silence_dbfs: Audio steps below this level, in decibels of full scale (-60 is usual), are left out; None keeps
            all.
        negative_sounds: Clips of silence and noise added to the batch of each process as negatives, even.
        temporal_negatives: Windows of each clip's own audio at other times, added as negatives of its video, half of
            them near (hard) and half far (easy); for models that tell whether audio is in sync.
        temporal_views: Windows of each clip at different times; above 1 each window is a pair of its own, and the
            others of its file are negatives in both directions.
        temporal_near_seconds: Smallest and largest distance of near windows, in seconds; far ones are further away.
        pooled_weight: Weight of InfoNCE between pooled embeddings, which search and retrieval compare; 0 in DenseAV.
        overlap_weight: Weight of the overlap of heads, >= 0.
        nonnegative_weight: Weight of the squares of negative cosines with another clip's audio, >= 0.
        smooth_weight: Weight of the squared changes of cosines over time, >= 0.
        silence_weight: Weight of absolute cosines in the steps that silence_dbfs leaves out, >= 0.
        negative_weight: Weight of squared cosines with silence and noise, >= 0.
        floor_weight: Weight of the penalty on a learned temperature above 1, >= 0.

    Terms, means over this rank's rows: ``loss``; ``loss_pairs``, the contrastive loss only; each regularizer that has a
    weight, under its name; ``accuracy_v2a``, ``accuracy_a2v``, ``cosine_positive`` and ``cosine_negative`` of the
    scores as in :class:`InfoNCE`; ``loss_pooled``, ``heard_share`` and ``temperature`` if applicable.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, ones = torch.arange(2), torch.ones(2, 8)
        >>> same = avssl.Embeddings(ones, ones, video_map=torch.ones(2, 8, 1, 7, 7), audio_map=torch.ones(2, 8, 1))
        >>> objective = DenseAV(num_heads=2, learn_temperature=False)
        >>> objective(same, None, BatchIndex(row, row, row)).terms["loss_pairs"]  # all pairs score the same: log 2
        tensor(0.6931)
    """

    def __init__(
        self,
        num_heads: Count = 2,
        temperature: Temperature = 0.07,
        *,
        learn_temperature: bool = True,
        silence_dbfs: Decibels | None = None,
        negative_sounds: CountOrZero = 0,
        temporal_negatives: CountOrZero = 0,
        temporal_views: Count = 1,
        temporal_near_seconds: tuple[Seconds, Seconds] = (0.2, 0.6),
        pooled_weight: PositiveOrZero = 0.0,
        overlap_weight: PositiveOrZero = 0.05,
        nonnegative_weight: PositiveOrZero = 0.01,
        smooth_weight: PositiveOrZero = 0.01,
        silence_weight: PositiveOrZero = 0.01,
        negative_weight: PositiveOrZero = 0.01,
        floor_weight: PositiveOrZero = 0.1,
    ) -> None:
        super().__init__()
        self.num_heads, self.temperature, self.learn_temperature = num_heads, temperature, learn_temperature
        self.silence_dbfs, self.pooled_weight = silence_dbfs, pooled_weight
        self.needs = self.needs_of(
            {
                "num_heads": num_heads,
                "temperature": temperature,
                "learn_temperature": learn_temperature,
                "silence_dbfs": silence_dbfs,
                "negative_sounds": negative_sounds,
                "temporal_negatives": temporal_negatives,
                "temporal_views": temporal_views,
                "temporal_near_seconds": temporal_near_seconds,
            }
        )
        self.weights = {
            "overlap": overlap_weight if num_heads > 1 else 0.0,
            "nonnegative": nonnegative_weight,
            "smooth": smooth_weight,
            "silence": silence_weight if silence_dbfs is not None else 0.0,
            "negative": negative_weight if negative_sounds else 0.0,
            "floor": floor_weight if learn_temperature else 0.0,
        }

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(
            num_views=options["temporal_views"],
            windows=temporal_windows(options),
            maps=True,
            num_heads=options["num_heads"],
            audio_over_time=True,
            logit_scale=learned_scale(options),
            negative_sounds=options["negative_sounds"],
            silence_dbfs=options["silence_dbfs"],
        )

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, temperature={self.temperature}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If the number of views is wrong, or a map, a mask, negative sounds or a
                learned temperature is missing.
        """
        video_map, audio_map = self._checked(online, len(index))
        temperature = 1 / online.logit_scale if online.logit_scale is not None else self.temperature
        with torch.autocast(video_map.device.type, enabled=False):
            places = unit_places(video_map, self.num_heads)  # (T, K, B, C, d)
            heard = self._heard(online, len(places), audio_map.shape[2])  # (B, L)
            everyone = self._gathered(online, unit_steps(audio_map, self.num_heads), heard)
            sounds, all_heard = everyone["steps"], everyone.get("heard")  # (N, S, K, d), (N, L)
            own = own_columns(len(video_map), video_map.device)
            pairs = pair_scores(moment_scores(places, sounds), all_heard)  # (B, N)
            both = pairs, other_direction(pairs)
            in_time = self._other_scores(online, places)  # (B, K)
            both = beside(both[0], in_time), both[1]
            contrast = symmetric_cross_entropy(*both, temperature)
            terms = self._regularizers(online, places, everyone, heard, own)
            total = contrast + sum(self.weights[name] * value for name, value in terms.items())
            if self.pooled_weight:
                others = others_of(online, self.needs.windows)
                v2a, a2v = pooled_scores(everyone["video"], everyone["audio"])
                v2a = beside(v2a, None if others is None else pooled_other_scores(online.video, others))
                terms["loss_pooled"] = symmetric_cross_entropy(v2a, a2v, temperature)
                total = total + self.pooled_weight * terms["loss_pooled"]
            if heard is not None:
                terms["heard_share"] = heard.mean()
        if self.learn_temperature:
            terms["temperature"] = torch.as_tensor(temperature)
        num_others = 0 if in_time is None else in_time.shape[1]
        measured = statistics(*(x.detach() for x in both), num_others=num_others)
        terms = {"loss": total, "loss_pairs": contrast, **terms, **measured}
        return LossTerms(total, {name: value.detach() for name, value in terms.items()})

    def _checked(self, online: Embeddings, num_clips: int) -> tuple[Tensor, Tensor]:
        """Return both maps after checking all embeddings."""
        if len(online.video) != self.needs.num_views * num_clips:
            views = "one view" if self.needs.num_views == 1 else f"{self.needs.num_views} views"
            raise InputError(
                f"DenseAV takes {views} of each clip, got {len(online.video)} embeddings of {num_clips} clips."
            )
        if online.video_map is None or online.audio_map is None:
            raise InputError(
                "DenseAV needs Embeddings.video_map and audio_map; call the model with needs_maps=objective.needs.maps."
            )
        if self.learn_temperature != (online.logit_scale is not None):
            raise InputError(
                f"DenseAV(learn_temperature={self.learn_temperature}) and the model disagree: where the temperature is "
                f"learned, the model carries logits=LogitScale({1 / self.temperature:g}), otherwise none."
            )
        self.negatives_of(online)
        check_maps(online.video_map, online.audio_map)
        return online.video_map, online.audio_map

    def _heard(self, online: Embeddings, num_cells: int, num_steps: int) -> Tensor | None:
        """Return (B, L) float32, 1 in audible and 0 in silent moments of this rank's clips; None if all count."""
        if self.silence_dbfs is None:
            return None
        if online.audio_heard is None:
            raise InputError(
                f"DenseAV(silence_dbfs={self.silence_dbfs}) needs Embeddings.audio_heard: which audio steps are "
                "louder than that."
            )
        _, step = matched_moments(num_cells, num_steps, online.audio_heard.device)
        return online.audio_heard.float()[:, step]

    def _gathered(self, online: Embeddings, steps: Tensor, heard: Tensor | None) -> dict[str, Tensor]:
        """Return what is needed of the clips of all ranks, from one exchange."""
        own = {"steps": steps}
        if heard is not None:
            own["heard"] = heard
        if self.weights["negative"] and online.negative_audio_map is not None:
            own["negative steps"] = unit_steps(online.negative_audio_map, self.num_heads)
        if self.pooled_weight:
            own |= {"video": online.video, "audio": online.audio}
        return dict(zip(own, gather_together(*own.values()), strict=True))

    def _next_clips(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """Return each row's number of its clip over all ranks, and the column of the next clip in the same view.

        Columns are ordered by rank, view and clip; numbers are those of one process, whatever the number of ranks.
        """
        num_views, num_rows = self.needs.num_views, len(own)
        per_rank = num_rows // num_views
        number = (rank() * per_rank + torch.arange(per_rank, device=own.device)).repeat(num_views)
        following = (number + 1) % (per_rank * world_size())
        view = torch.arange(num_rows, device=own.device) // per_rank
        return number, following // per_rank * num_rows + view * per_rank + following % per_rank

    def _other_scores(self, online: Embeddings, places: Tensor) -> Tensor | None:
        """Return the (B, K) scores of each video with its own clip's audio at other times; None without."""
        if others_of(online, self.needs.windows) is None:
            return None
        if online.other_audio_map is None:
            raise InputError("temporal_negatives needs Embeddings.other_audio_map: give the model needs_maps=True.")
        found = []
        for number, audio_map in enumerate(online.other_audio_map.unbind(1)):  # (B, D, S)
            cosines = own_cosines(places, unit_steps(audio_map, self.num_heads))  # (L, K, B, C)
            best = cosines.transpose(1, 2).flatten(2).max(dim=2).values  # (L, B)
            if online.other_heard is None:
                found.append(best.mean(dim=0))
                continue
            _, step = matched_moments(len(places), audio_map.shape[2], best.device)
            heard = online.other_heard[:, number, step].float().T  # (L, B)
            found.append((best * heard).sum(dim=0) / heard.sum(dim=0).clamp(min=1))
        return torch.stack(found, dim=1)

    def _regularizers(
        self, online: Embeddings, places: Tensor, everyone: Mapping[str, Tensor], heard: Tensor | None, own: Tensor
    ) -> dict[str, Tensor]:
        """Return each regularizer that has a weight, () with gradient, the mean over this rank's rows."""
        wanted = {name for name, weight in self.weights.items() if weight}
        found: dict[str, Tensor] = {}
        sounds = everyone["steps"]
        number, following = self._next_clips(own)
        if wanted & {"overlap", "smooth", "silence"}:
            cosines = own_cosines(places, sounds[own])  # (L, K, B, C)
        if "overlap" in wanted:
            found["overlap"] = _overlap(cosines.abs())
        if "nonnegative" in wanted:
            others = own_cosines(places, sounds[following])  # (L, K, B, C)
            found["nonnegative"] = F.relu(-others).square().mean()
        if "smooth" in wanted:
            found["smooth"] = _smoothness(cosines)
        if heard is not None and "silence" in wanted:
            found["silence"] = _loudness_of_silence(cosines.abs(), 1 - heard, (1 - everyone["heard"]).sum())
        if "negative steps" in everyone:
            negatives = everyone["negative steps"]
            found["negative"] = own_cosines(places, negatives[number % len(negatives)]).square().mean()
        if online.logit_scale is not None and "floor" in wanted:
            found["floor"] = F.relu(-online.logit_scale.log()).square()
        return found


def _overlap(sizes: Tensor) -> Tensor:
    """Return the mean product of two heads over all pairs of heads, from (L, K, B, C) absolute cosines."""
    first, second = torch.triu_indices(sizes.shape[1], sizes.shape[1], offset=1, device=sizes.device)
    return (sizes[:, first] * sizes[:, second]).mean()


def _smoothness(cosines: Tensor) -> Tensor:
    """Return the mean squared change of (L, K, B, C) cosines over time; 0 for a single moment."""
    if len(cosines) == 1:
        return cosines.sum() * 0
    return cosines.diff(dim=0).square().mean()


def _loudness_of_silence(sizes: Tensor, silent: Tensor, num_silent: Tensor) -> Tensor:
    """Return the mean of (L, K, B, C) absolute cosines over silent moments, 1 in (B, L); 0 if there are none.

    The mean is over the () number of silent moments of all ranks: each divides its sum by their average on a rank.
    """
    num_silent = num_silent.clamp(min=1) / world_size()
    return (sizes.mean(dim=(1, 3)) * silent.T).sum() / num_silent
