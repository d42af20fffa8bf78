"""The common API of HEAR: ``load_model``, ``get_scene_embeddings`` and ``get_timestamp_embeddings``.

Source: Turian et al., 2022, "HEAR: Holistic Evaluation of Audio Representations", https://arxiv.org/abs/2203.03022, and
https://hearbenchmark.com/hear-api.html. Check a release with ``hear-validator avssl.integrations.hear -m RELEASE``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchaudio.functional import resample

from avssl.core.errors import InputError
from avssl.hub.pretrained import PretrainedModel, demo_weights, from_pretrained
from avssl.integrations.recordings import Recordings

SAMPLE_RATES_HZ = (16_000, 22_050, 44_100, 48_000)
"""Sample rates that HEAR offers its audio in."""
STEP_MS = 50.0
"""Time between timestamps, the largest that HEAR recommends."""


class HearModel(Recordings):
    """A pretrained model with the attributes that HEAR reads.

    Args:
        pretrained: The model.
    """

    def __init__(self, pretrained: PretrainedModel) -> None:
        super().__init__(pretrained)
        rate = self.sampling.sample_rate_hz
        multiples = [offered for offered in SAMPLE_RATES_HZ if offered % rate == 0]
        enough = [offered for offered in SAMPLE_RATES_HZ if offered >= rate]
        self.sample_rate = (multiples + enough + [SAMPLE_RATES_HZ[-1]])[0]
        """Sample rate in Hz of the audio to pass: a multiple of the model's own if HEAR offers one."""
        self.scene_embedding_size = self.timestamp_embedding_size = self.num_features["audio"]

    def resampled(self, audio: Tensor) -> Tensor:
        """Return (N, S) audio of :attr:`sample_rate` at the model's sample rate.

        Raises:
            InputError: If it is not (N, S), or has no samples.
        """
        if audio.ndim != 2 or not audio.shape[1]:
            raise InputError(f"audio is (sounds, samples) with at least one sample, got {tuple(audio.shape)}.")
        return resample(audio.float(), self.sample_rate, self.sampling.sample_rate_hz)


def load_model(model_file_path: str = "") -> HearModel:
    """Load a model for HEAR.

    Args:
        model_file_path: A run directory, release folder or ``hf-hub:OWNER/NAME``; empty for the packaged weights.
    """
    return HearModel(from_pretrained(model_file_path or demo_weights()))


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Return the (N, C) float32 features of whole sounds.

    Args:
        audio: (N, S) in [-1, 1] at ``model.sample_rate``.
        model: From :func:`load_model`.
    """
    return torch.stack([model.vector("audio", model.audio_windows(sound)) for sound in model.resampled(audio)])


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Return features over time, interpolated between the steps of the audio encoder's map.

    Args:
        audio: (N, S) in [-1, 1] at ``model.sample_rate``.
        model: From :func:`load_model`.

    Returns:
        (N, T, C) float32 features, and their (N, T) float32 times in milliseconds, every :data:`STEP_MS`.
    """
    steps = model.audio_steps(model.resampled(audio))
    count = max(1, math.ceil(1000 * audio.shape[1] / model.sample_rate / STEP_MS))
    times_ms = (torch.arange(count, device=steps.device) + 0.5) * STEP_MS
    place = (times_ms / (1000 * model.step_seconds) - 0.5).clamp(0, steps.shape[1] - 1)  # step i is centered at i + 1/2
    before = place.floor().long()
    after = (before + 1).clamp(max=steps.shape[1] - 1)
    share = (place - before)[:, None]
    return torch.lerp(steps[:, before], steps[:, after], share), times_ms.expand(len(steps), -1)
