"""Frame-wise contrast: each frame of a clip against its own audio at every time of the clip.

Sources: Chung et al., "Perfect match", ICASSP 2019, https://arxiv.org/abs/1809.08001: one softmax over the audio of a
clip at many times; Korbar et al., NeurIPS 2018 (AVTS), https://arxiv.org/abs/1807.00230: hard negatives from the same
video. All times of a clip are compared, and no other clip. Who or what sounds is the same at all of them, so only
timing lowers the loss. Embeddings pooled over a window average this timing away.

Differences: frames and audio are embedded by one pass over a longer clip, not window by window; both directions.

Dimensions: B clips on this rank, D embedding size, T steps in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.errors import InputError
from avssl.core.moments import unit_instants
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import CountOrZero, Temperature, checked
from avssl.objectives.objective import Objective


@checked
class FrameWise(Objective):
    """Symmetric cross-entropy over the times of each clip: which moment of the audio belongs to which frame.

    The model tells whether audio is in sync (``avssl sync``), and nothing between clips: search, retrieval and probes
    need another objective. Video and audio must have the same number of steps in time: a frame of the video encoder's
    map for each step of the audio encoder's. With frames at 12.5 per second, a spectrogram with a hop of 10 ms and an
    audio encoder of stride 8 do.

    Args:
        temperature: Softmax temperature, > 0.
        ignored_steps: Audio this close to its frame, in steps, is no negative; 0 takes all other times.

    Terms, means over this rank's rows: ``loss``; ``accuracy_v2a`` and ``accuracy_a2v``, how often the own time scores
    highest among those compared (chance 1 / T); ``cosine_positive`` and ``cosine_negative``.
    """

    def __init__(self, temperature: Temperature = 0.1, ignored_steps: CountOrZero = 0) -> None:
        super().__init__()
        self.temperature, self.ignored_steps = temperature, ignored_steps
        self.needs = self.needs_of({})

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(maps=True, audio_over_time=True, framewise=True)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, ignored_steps={self.ignored_steps}"

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
            video, audio = unit_instants(video_map), unit_instants(audio_map)  # (B, T, D)
            scores = video @ audio.transpose(1, 2)  # (B, T frames, T audio steps)
            own = torch.arange(num_steps, device=scores.device)
            apart = (own[:, None] - own).abs()
            is_ignored = (apart > 0) & (apart <= self.ignored_steps)
            logits = scores.masked_fill(is_ignored, -torch.inf) / self.temperature
            labels = own.repeat(len(scores))
            v2a = F.cross_entropy(logits.flatten(0, 1), labels)
            a2v = F.cross_entropy(logits.transpose(1, 2).flatten(0, 1), labels)
        total = (v2a + a2v) / 2
        compared, is_negative = logits.detach(), apart > self.ignored_steps
        return LossTerms(
            total,
            {
                "loss": total.detach(),
                "accuracy_v2a": (compared.argmax(dim=2) == own).float().mean(),
                "accuracy_a2v": (compared.argmax(dim=1) == own).float().mean(),
                "cosine_positive": scores.detach().diagonal(dim1=1, dim2=2).mean(),
                "cosine_negative": (scores.detach() * is_negative).sum() / (len(scores) * is_negative.sum()),
            },
        )

    def _checked_steps(self, video_map: Tensor, audio_map: Tensor) -> int:
        cells, steps = video_map.shape[2], audio_map.shape[2]
        if cells != steps:
            raise InputError(
                f"FrameWise compares each frame with one step of the audio: the video map has {cells} steps in time "
                f"and the audio map {steps}. Set sampling.num_frames and sampling.frames_per_second, or the encoders' "
                "strides over time, so that both have as many, as configs/soundingshapes_sync.yaml does."
            )
        if steps < self.ignored_steps + 2:
            raise InputError(
                f"FrameWise(ignored_steps={self.ignored_steps}) needs clips of at least {self.ignored_steps + 2} steps "
                f"in time, got {steps}: longer clips (sampling.num_frames) or a smaller ignored_steps."
            )
        return steps
