"""Encode recordings of any length with a model whose input is a window.

Dimensions: N recordings, W windows of a recording, S samples, T frames of a window or steps in time, C features, D
embedding size.
"""

from __future__ import annotations

import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.data.sampling import SLACK_SECONDS, even_windows
from avssl.hub.pretrained import PretrainedModel
from avssl.models import ClipEncoder
from avssl.models.clip_encoder import What


class Recordings(nn.Module):
    """A pretrained model for recordings of any length: windows cover a recording, and their vectors are averaged.

    A recording that is shorter than a window is padded with silence, and its last frame is repeated. The module stays
    in evaluation mode.

    Args:
        pretrained: The model; moved with this module.
        batch_size: Windows to encode at once.
    """

    def __init__(self, pretrained: PretrainedModel, batch_size: int = 32) -> None:
        super().__init__()
        self.model, self.transform, self.sampling = pretrained.model, pretrained.transform, pretrained.sampling
        self._pretrained, self._batch_size = pretrained, batch_size
        self.num_features = {"video": self.model.video_encoder.num_features}
        self.num_features["audio"] = self.model.audio_encoder.num_features
        silence = torch.zeros(1, self.sampling.num_samples, device=pretrained.device)
        self.num_steps = self._map_steps(silence).shape[1]
        """Steps in time of the audio encoder's map of a window."""

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    @property
    def encoder(self) -> ClipEncoder:
        """The model with its preprocessing, on the device of its weights."""
        return self._pretrained.encoder()

    @property
    def step_seconds(self) -> float:
        """Time from one step of :meth:`audio_steps` to the next."""
        return self.sampling.audio_seconds / self.num_steps

    def num_windows(self, seconds: float) -> int:
        """Return how many windows cover a recording."""
        window = max(self.sampling.audio_seconds, self.sampling.video_seconds)
        return max(1, math.ceil((seconds - SLACK_SECONDS) / window))

    def audio_windows(self, waveform: Tensor, count: int | None = None) -> Tensor:
        """Return (W, S) evenly spaced windows of a waveform at the model's sample rate.

        Raises:
            InputError: If it is not one channel, or empty.
        """
        if waveform.ndim != 1 or not len(waveform):
            raise InputError(f"a waveform is (S,) with at least one sample, got {tuple(waveform.shape)}.")
        rate, size = self.sampling.sample_rate_hz, self.sampling.num_samples
        span = (0.0, len(waveform) / rate)
        starts, _ = even_windows(count or self.num_windows(span[1]), self.sampling, span, span)
        pieces = (waveform[round(start * rate) :][:size] for start in starts)
        return torch.stack([F.pad(piece, (0, size - len(piece))) for piece in pieces])

    def frame_times(self, seconds: float, count: int | None = None) -> list[list[float]]:
        """Return the times of the T frames of each of W evenly spaced windows of a video, in seconds."""
        _, starts = even_windows(count or self.num_windows(seconds), self.sampling, (0.0, seconds), (0.0, seconds))
        period = 1 / self.sampling.frames_per_second
        return [[start + i * period for i in range(self.sampling.num_frames)] for start in starts]

    def features(self, modality: Modality, windows: Tensor, what: What = "features") -> Tensor:
        """Return (W, C) vectors of windows: (W, T, 3, height, width) uint8 frames, or (W, S) audio."""
        encoder = self.encoder
        found = []
        for part in windows.split(self._batch_size):
            x = encoder.video_input(part) if modality == "video" else encoder.audio_input(part.float())
            found.append(encoder.encode(modality, x).vectors(what))
        return torch.cat(found)

    def vector(self, modality: Modality, windows: Tensor, what: What = "features") -> Tensor:
        """Return the (C,) mean of :meth:`features`; of embeddings, its direction."""
        mean = self.features(modality, windows, what).mean(dim=0)
        return F.normalize(mean, dim=0) if what == "embeddings" else mean

    def joint_vector(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the (D,) unit embedding of W windows of video and their audio together.

        It is that of the joint head, or of a model without one the direction between both embeddings.
        """
        encoder = self.encoder
        if not encoder.has_joint:
            both = self.vector("video", frames, "embeddings") + self.vector("audio", audio, "embeddings")
            return F.normalize(both, dim=0)
        parts = zip(frames.split(self._batch_size), audio.split(self._batch_size), strict=True)
        found = [encoder.joint(encoder.video_input(v), encoder.audio_input(a.float())) for v, a in parts]
        return F.normalize(torch.cat(found).mean(dim=0), dim=0)

    def audio_steps(self, waveforms: Tensor) -> Tensor:
        """Return (N, T, C) features over time of (N, S) waveforms at the model's sample rate.

        Windows follow each other without a gap, and the last one is filled up with silence, whose steps are left out.
        """
        size, length = self.sampling.num_samples, waveforms.shape[1]
        tiles = F.pad(waveforms, (0, -length % size)).reshape(len(waveforms), -1, size)
        found = [self._map_steps(part) for part in tiles.flatten(0, 1).split(self._batch_size)]
        steps = torch.cat(found).unflatten(0, tiles.shape[:2]).flatten(1, 2)
        return steps[:, : max(1, math.ceil(length * self.num_steps / size))]

    @torch.no_grad()
    def _map_steps(self, windows: Tensor) -> Tensor:
        """Return the (W, T, C) map of the audio encoder, pooled over frequency."""
        encoder = self.model.audio_encoder
        device = next(self.model.parameters()).device
        found = encoder.forward_features(self.transform.audio_input(windows.float().to(device)))  # (W, C, T, F)
        pooled = found.amax(dim=3) if encoder.pooling == "max" else found.mean(dim=3)
        return pooled.float().transpose(1, 2)
