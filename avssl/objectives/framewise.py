"""Frame-wise contrast: each frame of a clip against the audio of its own moment, among other moments or other clips.

Sources: Chung et al., "Perfect match", ICASSP 2019, https://arxiv.org/abs/1809.08001: one softmax over the audio of a
clip at many times; Korbar et al., NeurIPS 2018 (AVTS), https://arxiv.org/abs/1807.00230: hard negatives from the same
video. There all times of a clip are compared, and no other clip: who or what sounds is the same at all of them, so only
timing lowers the loss. Embeddings pooled over a window average this timing away.

With the moments of all clips of the batch as negatives it is the contrast of CAV-MAE Sync (Araujo et al., CVPR 2025,
https://arxiv.org/abs/2505.01237), which pairs each frame with the audio around it. Whole clips are then compared by the
similarities of their moments (:mod:`avssl.evaluation.moment_retrieval`).

Differences: frames and audio are embedded by one pass over a longer clip, not window by window; both directions.

Dimensions: B clips on this rank, N over all ranks, D embedding size, T steps in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together
from avssl.core.errors import InputError
from avssl.core.moments import unit_instants
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import CountOrZero, Temperature, checked
from avssl.objectives.objective import Objective
from avssl.objectives.scores import own_columns


@checked
class FrameWise(Objective):
    """Symmetric cross-entropy over moments: which audio belongs to which frame.

    With ``negatives: clip`` the model tells whether audio is in sync (``avssl sync``), and nothing between clips:
    search, retrieval and probes need ``negatives: batch``, or another objective. Video and audio must have the same
    number of steps in time: a frame of the video encoder's map for each step of the audio encoder's. With frames at
    12.5 per second, a spectrogram with a hop of 10 ms and an audio encoder of stride 8 do.

    Args:
        temperature: Softmax temperature, > 0.
        ignored_steps: Audio of the clip this close to its frame, in steps, is no negative; 0 takes all other times.
        negatives: "clip" compares the times of each clip, "batch" the times of all clips over all ranks.
        around_steps: A frame is compared with the mean audio of so many steps before and after its own.

    Terms, means over this rank's rows: ``loss``; ``accuracy_v2a`` and ``accuracy_a2v``, how often the own time scores
    highest among those compared (chance 1 / T, or 1 / (N T)); ``cosine_positive`` and ``cosine_negative``.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, ones = torch.arange(2), torch.ones(2, 8)
        >>> still = avssl.Embeddings(ones, ones, video_map=torch.ones(2, 8, 3, 7, 7), audio_map=torch.ones(2, 8, 3))
        >>> FrameWise()(still, None, BatchIndex(row, row, row)).total  # the three moments are equal: log 3
        tensor(1.0986)
    """

    def __init__(
        self,
        temperature: Temperature = 0.1,
        ignored_steps: CountOrZero = 0,
        negatives: Literal["clip", "batch"] = "clip",
        around_steps: CountOrZero = 0,
    ) -> None:
        super().__init__()
        if negatives not in ("clip", "batch"):
            raise InputError(f'negatives ({negatives!r}) must be "clip" or "batch".')
        self.temperature, self.ignored_steps = temperature, ignored_steps
        self.negatives, self.around_steps = negatives, around_steps
        self.needs = self.needs_of({})

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(maps=True, audio_over_time=True, framewise=True)

    def extra_repr(self) -> str:
        return (
            f"temperature={self.temperature}, ignored_steps={self.ignored_steps}, negatives={self.negatives!r}, "
            f"around_steps={self.around_steps}"
        )

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            InputError: If a map is missing, video and audio have other numbers of steps, or there are no negatives.
        """
        self.check_views(online, index)
        video_map, audio_map = online.video_map, online.audio_map
        if video_map is None or audio_map is None:
            raise InputError(
                "FrameWise needs Embeddings.video_map and audio_map; call the model with "
                "needs_maps=objective.needs.maps."
            )
        num_steps = self._checked_steps(video_map, audio_map)
        with torch.autocast(video_map.device.type, enabled=False):
            video, audio = unit_instants(video_map), self._around(unit_instants(audio_map))  # (B, T, D)
            if self.negatives == "clip":
                scores = video @ audio.mT  # (B, T frames, T audio steps)
                rows = [scores.flatten(0, 1), scores.mT.flatten(0, 1)]  # (B T, T) each
                own_clip = torch.zeros(len(video), dtype=torch.int64, device=video.device)
            else:
                frames, sounds = video.flatten(0, 1), audio.flatten(0, 1)  # (B T, D)
                all_frames, all_sounds = gather_together(frames, sounds)  # (N T, D)
                rows = [frames @ all_sounds.T, sounds @ all_frames.T]  # (B T, N T) each
                own_clip = own_columns(len(video), video.device)
            return self._loss(rows, own_clip, num_steps)

    def _loss(self, rows: list[Tensor], own_clip: Tensor, num_steps: int) -> LossTerms:
        """Return the loss of cosines, (B T, columns) of each direction; clip b's own times begin at own_clip[b] * T."""
        time = torch.arange(num_steps, device=own_clip.device)
        column = torch.arange(rows[0].shape[1], device=own_clip.device)
        first = (own_clip * num_steps)[:, None]  # (B, 1)
        labels = (first + time).flatten()  # (B T,)
        apart = (column - labels[:, None]).abs()
        is_own_clip = (column // num_steps == own_clip[:, None]).repeat_interleave(num_steps, dim=0)
        is_ignored = is_own_clip & (apart > 0) & (apart <= self.ignored_steps)
        logits = [scores.masked_fill(is_ignored, -torch.inf) / self.temperature for scores in rows]
        v2a, a2v = (F.cross_entropy(each, labels) for each in logits)
        total = (v2a + a2v) / 2
        hits = [(each.detach().argmax(dim=1) == labels).float().mean() for each in logits]
        cosines, is_negative = rows[0].detach(), (apart > 0) & ~is_ignored
        return LossTerms(
            total,
            {
                "loss": total.detach(),
                "accuracy_v2a": hits[0],
                "accuracy_a2v": hits[1],
                "cosine_positive": cosines.gather(1, labels[:, None]).mean(),
                "cosine_negative": (cosines * is_negative).sum() / is_negative.sum(),
            },
        )

    def _around(self, audio: Tensor) -> Tensor:
        """Return unit vectors of the mean of ``around_steps`` steps on both sides of each of (B, T, D) unit vectors."""
        if not self.around_steps:
            return audio
        width = 2 * self.around_steps + 1
        mean = F.avg_pool1d(audio.mT, width, 1, self.around_steps, count_include_pad=False)
        return F.normalize(mean.mT, dim=2)

    def _checked_steps(self, video_map: Tensor, audio_map: Tensor) -> int:
        cells, steps = video_map.shape[2], audio_map.shape[2]
        if cells != steps:
            raise InputError(
                f"FrameWise compares each frame with one step of the audio: the video map has {cells} steps in time "
                f"and the audio map {steps}. Set sampling.num_frames and sampling.frames_per_second, or the encoders' "
                "strides over time, so that both have as many, as configs/soundingshapes_sync.yaml does."
            )
        if self.negatives == "clip" and steps < self.ignored_steps + 2:
            raise InputError(
                f"FrameWise(ignored_steps={self.ignored_steps}) needs clips of at least {self.ignored_steps + 2} steps "
                f"in time, got {steps}: longer clips (sampling.num_frames) or a smaller ignored_steps."
            )
        return steps
