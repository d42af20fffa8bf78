"""An audio encoder for X-ARES: ``python -m xares.run avssl/integrations/xares.py src/tasks/*.py`` evaluates it.

Source: Zhang et al., 2025, "X-ARES: A Comprehensive Framework for Assessing Audio Encoder Performance",
https://arxiv.org/abs/2505.16369.
"""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor

from avssl.core.errors import InputError
from avssl.hub.pretrained import demo_weights, from_pretrained
from avssl.integrations.recordings import Recordings


class AvsslEncoder(Recordings):
    """Features over time of the audio encoder, with the attributes that X-ARES reads.

    X-ARES creates it without arguments.

    Args:
        checkpoint: Run directory, release folder or ``hf-hub:OWNER/NAME``; None for the environment variable
            ``AVSSL_CHECKPOINT``, or the packaged weights if that is unset.
    """

    def __init__(self, checkpoint: Path | str | None = None) -> None:
        super().__init__(from_pretrained(checkpoint or os.environ.get("AVSSL_CHECKPOINT") or demo_weights()))
        self.sampling_rate = self.sampling.sample_rate_hz
        """Sample rate in Hz of the audio to pass."""
        self.output_dim = self.num_features["audio"]
        """C of the output."""
        self.hop_size_in_ms = 1000 * self.step_seconds
        """Time from one step of the output to the next."""

    def forward(self, audio: Tensor) -> Tensor:
        """Return (N, T, C) features of (N, S) waveforms in [-1, 1]; (S,) is one waveform.

        Raises:
            InputError: If the audio has no samples.
        """
        audio = audio if audio.ndim > 1 else audio[None]
        if audio.ndim != 2 or not audio.shape[1]:
            raise InputError(f"audio is (waveforms, samples) with at least one sample, got {tuple(audio.shape)}.")
        return self.audio_steps(audio)
