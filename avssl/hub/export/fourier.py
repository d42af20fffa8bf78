"""Spectrograms as one convolution, whose kernels are the windowed waves of the Fourier transform.

Exporters and runtimes differ in their Fourier transforms; all of them have convolutions. In float32 both are equally
far from the exact powers: what differs lies about 100 dB below the clip's maximum.

Dimensions: B clips, S samples, N samples of the window, F = N / 2 + 1 bins.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.transforms import LogMel, LogSpectrogram
from avssl.transforms.audio import to_decibels


class FourierSpectrogram(nn.Module):
    """Computes what a spectrogram module computes, without a Fourier transform.

    Args:
        spectrogram: The module.
    """

    waves: Tensor

    def __init__(self, spectrogram: LogSpectrogram | LogMel) -> None:
        super().__init__()
        window = spectrogram.window.double()
        length = len(window)
        number = torch.arange(length // 2 + 1)[:, None] * torch.arange(length) % length  # (F, N), exact
        angle = 2 * math.pi / length * number.double()
        waves = torch.cat([angle.cos(), angle.sin()]) * window
        self.register_buffer("waves", waves.float()[:, None])  # (2 F, 1, N)
        self.spectrogram = spectrogram
        self.reach, self.hop_length = length // 2, spectrogram.hop_length

    def forward(self, waveform: Tensor) -> Tensor:
        """Convert (B, S) float in [-1, 1] to (B, 1, time, freq) float32 in dB."""
        padded = F.pad(waveform[:, None], (self.reach, self.reach), mode=self.spectrogram.padding)
        parts = F.conv1d(padded, self.waves, stride=self.hop_length)[..., : waveform.shape[1] // self.hop_length]
        real, imaginary = parts.chunk(2, dim=1)
        power = self.spectrogram.bins(real.square() + imaginary.square())
        return to_decibels(power).transpose(1, 2)[:, None]
