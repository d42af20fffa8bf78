"""Audio that matches no video: silence, and noise of several colors and levels.

Juanola et al., BMVC 2025 (SSL-SaN), https://arxiv.org/abs/2508.21761, train with silence and noise as
negatives, so that a model finds no source for them. The waveforms here are our
own choice: every other one is digital silence, the rest Gaussian noise, white, pink or brown.

Dimensions: B clips, M waveforms, S samples.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from avssl.core.draws import DrawnTogether, integers, normal, splitmix64, uniform
from avssl.core.errors import InputError

LOWEST_DB, HIGHEST_DB = -60.0, -15.0
"""Range of the level of noise: root mean square in decibels of full scale, uniform between the two."""
NUM_COLORS = 3
"""Power falls with frequency as f^-n: n = 0 is white, 1 pink, 2 brown; equally likely."""
FLAT_BELOW = 1 / 1024
"""Fraction of the sample rate (23 Hz at 24 kHz) below which power is flat, so that brown noise stays audible."""


class NegativeSounds(nn.Module):
    """Draws M waveforms per batch, each from the key of one of its clips, without a random generator.

    Clips are taken at even distances, so that two ranks of B clips and M waveforms each draw those of one process
    with 2 * B clips and 2 * M waveforms.

    Args:
        count: M, even and above 0: the first, third ... are silence, the others noise.

    Raises:
        ValueError: If ``count`` is odd or below 2.

    Example:
        >>> audio = NegativeSounds(4)(torch.arange(8), num_samples=16000)
        >>> audio.abs().amax(dim=1) > 0  # silence, noise, silence, noise
        tensor([False,  True, False,  True])
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        if count < 2 or count % 2:
            raise InputError(f"negative_sounds ({count}) must be even and above 0: half are silence, half noise.")
        self.count = count
        self._drawn_together = DrawnTogether()

    @torch.no_grad()
    def forward(self, key: Tensor, num_samples: int) -> Tensor:
        """Return (M, S) float32, almost never outside [-1, 1], from (B,) int64 keys of the clips."""
        numbers = torch.arange(1, self.count, 2, device=key.device)
        clips = numbers * len(key) // self.count
        # With more waveforms than clips, a clip's key gives several.
        number_in_clip = numbers - (clips * self.count + len(key) - 1) // len(key)
        noise_key = splitmix64(key[clips] ^ splitmix64(number_in_clip))
        with self._drawn_together(noise_key):
            noise = colored_noise(noise_key, num_samples)
        return rearrange([torch.zeros_like(noise), noise], "kind m s -> (m kind) s")

    def extra_repr(self) -> str:
        return f"count={self.count}"


def colored_noise(key: Tensor, num_samples: int) -> Tensor:
    """Return (N, S) float32 Gaussian noise of random color and level, S >= 2, from (N,) int64 keys."""
    spectrum = torch.fft.rfft(normal(key, "noise/samples", num_samples).float())
    frequency = torch.arange(spectrum.shape[1], device=key.device) / num_samples
    color = integers(key, "noise/colour", 1, NUM_COLORS)
    noise = torch.fft.irfft(spectrum * frequency.clamp(min=FLAT_BELOW).pow(-color / 2), n=num_samples)
    level = 10 ** (uniform(key, "noise/level", 1, LOWEST_DB, HIGHEST_DB) / 20)
    return noise * (level.float() / noise.square().mean(dim=1, keepdim=True).sqrt())
