"""Low-pass, high-pass and band-pass filters of a whole batch, with a kind and a frequency for each clip.

Second-order filters of Bristow-Johnson, "Cookbook formulae for audio EQ biquad filter coefficients", which torchaudio
and SoX use too. They are applied in the frequency domain: a recursion over samples would take a GPU a step for each.

Dimensions: B clips, S samples, F bins.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

QUALITY = 0.707
"""Q of all filters: without a peak at the cutoff, as in torchaudio."""
KINDS = ("low", "high", "band")
_DECAY = 14.0  # nepers until the response of a filter to an impulse is over: 1e-6


def filter_waveform(waveform: Tensor, kind: Tensor, frequency_hz: Tensor, sample_rate_hz: int, low_hz: float) -> Tensor:
    """Filter each waveform.

    Args:
        waveform: (B, S) float.
        kind: (B,) int64, index of :data:`KINDS`; -1 leaves the clip as it is.
        frequency_hz: (B,) cutoff, or center of the band, in Hz, below half of the sample rate.
        sample_rate_hz: Samples a second.
        low_hz: Lower limit of ``frequency_hz``; the lower, the longer a filter rings.

    Returns:
        (B, S) of the type of ``waveform``, not clamped to [-1, 1].
    """
    num_samples = waveform.shape[1]
    # The transform is periodic: zeros behind the end keep the ringing of the end out of the beginning.
    ring_seconds = _DECAY * QUALITY / (math.pi * low_hz)
    length = num_samples + math.ceil(ring_seconds * sample_rate_hz)
    length = 1 << (length - 1).bit_length()
    response = _responses(kind, frequency_hz, sample_rate_hz, length)
    with torch.autocast(waveform.device.type, enabled=False):
        spectrum = torch.fft.rfft(waveform.float(), n=length)
        filtered = torch.fft.irfft(spectrum * response, n=length)[:, :num_samples]
    return torch.where(kind[:, None] < 0, waveform, filtered.to(waveform.dtype))


def _responses(kind: Tensor, frequency_hz: Tensor, sample_rate_hz: int, length: int) -> Tensor:
    """Return (B, F) complex64 responses; in float64 inside, as the terms cancel at low frequencies."""
    omega = 2 * math.pi * frequency_hz.double() / sample_rate_hz
    alpha, cosine = omega.sin() / (2 * QUALITY), omega.cos()
    one = torch.ones_like(omega)
    low = torch.stack([(1 - cosine) / 2, 1 - cosine, (1 - cosine) / 2], dim=1)
    high = torch.stack([(1 + cosine) / 2, -1 - cosine, (1 + cosine) / 2], dim=1)
    band = torch.stack([alpha, 0 * one, -alpha], dim=1)
    chosen = kind.clamp(min=0)[:, None, None].expand(-1, 1, 3)
    forward = torch.stack([low, high, band], dim=1).gather(1, chosen)[:, 0]  # (B, 3)
    backward = torch.stack([1 + alpha, -2 * cosine, 1 - alpha], dim=1)
    angle = torch.arange(length // 2 + 1, device=kind.device, dtype=torch.float64) * (2 * math.pi / length)
    delays = torch.polar(torch.ones(3, len(angle), dtype=torch.float64, device=kind.device), -_powers(angle))
    return ((forward.to(delays.dtype) @ delays) / (backward.to(delays.dtype) @ delays)).to(torch.complex64)


def _powers(angle: Tensor) -> Tensor:
    """Return (3, F): the angle times 0, 1 and 2."""
    return torch.arange(3, device=angle.device, dtype=angle.dtype)[:, None] * angle
