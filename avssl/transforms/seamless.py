"""Filter banks of wav2vec 2.0 BERT: Kaldi's, standardized for each clip, two columns side by side.

Source: Seamless Communication et al., 2023, https://arxiv.org/abs/2312.05187, by its feature extractor of transformers.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.ranges import Count, Mels, SampleRate, checked
from avssl.transforms.fbank import KaldiFbank
from avssl.transforms.front_end import FrontEnd

_SCALE = 2.0**15  # Kaldi's samples are 16-bit numbers
_VARIANCE_FLOOR = 1e-7


@checked
class SeamlessFbank(FrontEnd):
    """Kaldi's filter banks with its own Povey window, with zero mean and unit variance in each bin of each clip.

    Args:
        sample_rate_hz: Sample rate of the waveforms, in Hz.
        num_mels: Number of mel filters.
        stride: Columns that are put side by side into one.

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(self, sample_rate_hz: SampleRate = 16_000, num_mels: Mels = 80, stride: Count = 2) -> None:
        super().__init__(sample_rate_hz)
        self.fbank = KaldiFbank(sample_rate_hz, num_mels)
        self.fbank.window = self.fbank.window**0.85
        self.stride = stride

    @property
    def num_bins(self) -> int:
        return self.fbank.num_bins * self.stride

    @property
    def fixed_statistics(self) -> tuple[float, float]:
        return 0.0, 1.0

    def num_frames(self, num_samples: int) -> int:
        return -(-self.fbank.num_frames(num_samples) // self.stride)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Convert (B, S) float in [-1, 1] to (B, 1, time, num_mels * stride) float32."""
        columns = self.fbank(waveform.float() * _SCALE)[:, 0]
        variance, mean = torch.var_mean(columns, dim=1, keepdim=True)
        columns = (columns - mean) / (variance + _VARIANCE_FLOOR).sqrt()
        columns = F.pad(columns, (0, 0, 0, -columns.shape[1] % self.stride))
        return columns.unflatten(1, (-1, self.stride)).flatten(2)[:, None]

    def describe(self) -> dict[str, Any]:
        return self.fbank.describe() | {
            "window": "hann, symmetric, to the power of 0.85, after subtracting the mean and a pre-emphasis of 0.97",
            "values": "natural logarithms of energies of samples times 2^15, each bin of a clip standardized",
            "stride": self.stride,
        }
