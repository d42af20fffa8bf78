"""The upstream model of AV-SUPERB: ``UpstreamExpert`` for its ``upstream_models/avssl/expert.py``.

Source: Tseng et al., 2024, "AV-SUPERB: A Multi-Task Evaluation Benchmark for Audio-Visual Representation Models",
https://arxiv.org/abs/2309.10787.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchaudio.functional import resample
from torchvision.transforms.v2.functional import resize

from avssl.core.errors import InputError
from avssl.hub.pretrained import demo_weights, from_pretrained
from avssl.integrations.recordings import Recordings
from avssl.media.reader import resized


class UpstreamExpert(Recordings):
    """A pretrained model with the preprocessing and the features that AV-SUPERB calls.

    Args:
        ckpt: Run directory, release folder or ``hf-hub:OWNER/NAME``; None for the packaged weights.
        model_config: Not used: a release has its own settings.
        **options: Further options of AV-SUPERB, which no model of avssl needs.
    """

    def __init__(self, ckpt: str | None = None, model_config: str | None = None, **options: Any) -> None:
        super().__init__(from_pretrained(ckpt or demo_weights()))

    def preprocess_video(self, video: Tensor, video_frame_rate: float) -> Tensor:
        """Return (T, 3, H, W) uint8 frames at the model's frame rate.

        Args:
            video: (T, 3, H, W) or (T, 1, H, W) uint8 frames.
            video_frame_rate: Their frames per second.

        Raises:
            InputError: If it is no video of uint8.
        """
        if video.ndim != 4 or not len(video) or video.shape[1] not in (1, 3) or video.dtype != torch.uint8:
            raise InputError(
                f"video is (frames, 1 or 3, height, width) uint8 with at least one frame, got {tuple(video.shape)} "
                f"{video.dtype}."
            )
        rate = self.sampling.frames_per_second
        count = max(1, round(len(video) / video_frame_rate * rate))
        places = (torch.arange(count) * video_frame_rate / rate).long().clamp(max=len(video) - 1)
        height, width = resized(video.shape[3], video.shape[2], self.sampling.short_side)
        frames: Tensor = resize(video[places].expand(-1, 3, -1, -1), [height, width], antialias=True)
        return frames

    def preprocess_audio(self, audio: Tensor, audio_sample_rate: int) -> Tensor:
        """Return a (S,) waveform at the model's sample rate, the mean of the channels.

        Args:
            audio: (channels, S) or (S,) in [-1, 1].
            audio_sample_rate: Its sample rate in Hz.
        """
        mono = audio.float() if audio.ndim == 1 else audio.float().mean(dim=0)
        return resample(mono, audio_sample_rate, self.sampling.sample_rate_hz)

    def forward(self, source: Sequence[tuple[Tensor, Tensor]]) -> dict[str, list[Tensor]]:
        """Return features of the windows of each recording; all have as many as the longest one.

        Args:
            source: Preprocessed (audio, video) of N recordings.

        Returns:
            ``"video_feats"`` and ``"audio_feats"`` (N, W, C), and ``"fusion_feats"``, both side by side.
        """
        seconds = [len(audio) / self.sampling.sample_rate_hz for audio, _ in source]
        count = max(self.num_windows(length) for length in seconds)
        audio = torch.cat([self.audio_windows(audio, count) for audio, _ in source])
        video = torch.cat([self._video_windows(video, count) for _, video in source])
        heard = self.features("audio", audio).unflatten(0, (len(source), count))
        seen = self.features("video", video).unflatten(0, (len(source), count))
        return {"video_feats": [seen], "audio_feats": [heard], "fusion_feats": [torch.cat([seen, heard], dim=2)]}

    def _video_windows(self, frames: Tensor, count: int) -> Tensor:
        """Return (W, T, 3, H, W) windows of frames at the model's frame rate."""
        rate = self.sampling.frames_per_second
        times = torch.tensor(self.frame_times(len(frames) / rate, count))
        return frames[(times * rate).round().long().clamp(max=len(frames) - 1)]
