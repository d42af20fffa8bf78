"""Sounds that fit no picture: silence, and noise of several colors and levels.

That a model should find nothing where there is nothing to hear, and learn it from silence and noise as
negatives, is Juanola et al., BMVC 2025 (SSL-SaN), https://arxiv.org/abs/2508.21761. The sounds here are our
own choice: every other one is digital silence, the rest Gaussian noise, white, pink or brown.

Dimensions: B clips, M sounds, S samples.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avssl.core.draws import integers, mix, normal, uniform
from avssl.core.errors import InputError

LOWEST_DB, HIGHEST_DB = -60.0, -15.0
"""Level of noise: root mean square of its samples in decibels of full scale, uniform between the two."""
NUM_COLORS = 3
"""Power falls with frequency as f^-n: n = 0 is white, 1 pink, 2 brown; each as likely."""
FLAT_BELOW = 1 / 1024
"""Of the sample rate (23 Hz at 24 kHz): power falls from there on, lest brown noise be a rumble nobody hears."""


class NegativeSounds(nn.Module):
    """M waveforms a batch, each drawn from the key of one of its clips: no generator is touched.

    Clips are taken at even distances, so that two ranks of B clips and M sounds each draw what one process
    draws for 2 * B clips and 2 * M sounds.

    Args:
        count: M, even and above 0: the first, third ... are silence, the others noise.

    Raises:
        ValueError: If ``count`` is odd or below 2.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        if count < 2 or count % 2:
            raise InputError(f"negative_sounds ({count}) must be even and above 0: half are silence, half noise.")
        self.count = count

    @torch.no_grad()
    def forward(self, key: Tensor, num_samples: int) -> Tensor:
        """(B,) int64 keys of the clips -> (M, S) float32, all but never outside [-1, 1]."""
        numbers = torch.arange(1, self.count, 2, device=key.device)
        clips = numbers * len(key) // self.count
        # Where sounds outnumber clips, a clip gives several.
        number_in_clip = numbers - (clips * self.count + len(key) - 1) // len(key)
        noise = colored_noise(mix(key[clips] ^ mix(number_in_clip)), num_samples)
        return torch.stack([torch.zeros_like(noise), noise], dim=1).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"count={self.count}"


def colored_noise(key: Tensor, num_samples: int) -> Tensor:
    """(N,) int64 keys -> (N, S) float32 Gaussian noise of a drawn color and level, S >= 2."""
    spectrum = torch.fft.rfft(normal(key, "noise/samples", num_samples).float())
    frequency = torch.arange(spectrum.shape[1], device=key.device) / num_samples
    color = integers(key, "noise/colour", 1, NUM_COLORS)
    noise = torch.fft.irfft(spectrum * frequency.clamp(min=FLAT_BELOW).pow(-color / 2), n=num_samples)
    level = 10 ** (uniform(key, "noise/level", 1, LOWEST_DB, HIGHEST_DB) / 20)
    return noise * (level.float() / noise.square().mean(dim=1, keepdim=True).sqrt())
