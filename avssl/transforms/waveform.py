"""The waveform itself as the input of encoders that begin with convolutions over time, such as HuBERT."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.core.ranges import SampleRate, checked
from avssl.transforms.front_end import FrontEnd

VARIANCE_FLOOR = 1e-7
"""Added to the variance, so that silence stays 0; that of wav2vec 2.0 (https://arxiv.org/abs/2006.11477)."""


@checked
class Waveform(FrontEnd):
    """The waveform without a spectrogram, as wav2vec 2.0 and HuBERT take it: (B, S) to (B, 1, S, 1).

    Args:
        sample_rate_hz: Sample rate of the waveforms, in Hz.
        normalize: Scale each clip to zero mean and unit variance.

    Example:
        >>> Waveform()(torch.tensor([[1.0, 3, 1, 3]])).flatten().round()  # minus the mean, 2; the deviation is 1
        tensor([-1.,  1., -1.,  1.])
    """

    def __init__(self, sample_rate_hz: SampleRate = 16_000, normalize: bool = True) -> None:
        super().__init__(sample_rate_hz)
        self.normalize = normalize

    @property
    def num_bins(self) -> int:
        return 1

    @property
    def fixed_statistics(self) -> tuple[float, float]:
        return 0.0, 1.0

    def num_frames(self, num_samples: int) -> int:
        return num_samples

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Convert (B, S) float in [-1, 1] to (B, 1, S, 1) float32.

        Raises:
            ValueError: If ``waveform`` is not (B, S) float.
        """
        if waveform.ndim != 2 or not waveform.is_floating_point():
            raise InputError(f"waveform must be (B, S) float in [-1, 1], got {tuple(waveform.shape)} {waveform.dtype}.")
        samples = waveform.float()
        if self.normalize:
            variance, mean = torch.var_mean(samples, dim=1, keepdim=True, correction=0)
            samples = (samples - mean) / (variance + VARIANCE_FLOOR).sqrt()
        return samples[:, None, :, None]

    def describe(self) -> dict[str, Any]:
        scaled = "(x - mean of the clip) / sqrt(variance of the clip + 1e-7)" if self.normalize else "as they are"
        return {"frequencies": "none: the waveform itself", "values": f"samples {scaled}"}

    def extra_repr(self) -> str:
        return f"sample_rate_hz={self.sample_rate_hz}, normalize={self.normalize}"
