"""Low-pass, high-pass and band-pass filters of a whole batch, with a kind and a frequency for each clip.

Second-order filters of Bristow-Johnson, "Cookbook formulae for audio EQ biquad filter coefficients", which torchaudio
and SoX use too. They are applied in the frequency domain: a recursion over samples would take a GPU a step for each.

Dimensions: B clips, S samples, F bins.
"""

from __future__ import annotations

import math

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from avssl.core.traced import constant

QUALITY = 0.707
"""Q of all filters: without a peak at the cutoff, as in torchaudio."""
KINDS = ("low", "high", "band")
_DECAY = 14.0  # nepers until the response of a filter to an impulse is over: 1e-6


def filter_waveform(waveform: Tensor, kind: Tensor, frequency_hz: Tensor, sample_rate_hz: int, low_hz: float) -> Tensor:
    """Filter each waveform.

    Args:
        waveform: (B, S) float.
        kind: (B,) int64, index of :data:`KINDS`.
        frequency_hz: (B,) cutoff, or center of the band, in Hz, below half of the sample rate.
        sample_rate_hz: Samples a second.
        low_hz: Lower limit of ``frequency_hz``; the lower, the longer a filter rings.

    Returns:
        (B, S) of the type of ``waveform``, not clamped to [-1, 1].
    """
    num_samples = waveform.shape[1]
    # The transform is periodic: zeros behind the end keep the ringing of the end out of the beginning.
    ring_seconds = _DECAY * QUALITY / (math.pi * low_hz)
    length = _fast_length(num_samples + math.ceil(ring_seconds * sample_rate_hz))
    response = _responses(kind, frequency_hz, sample_rate_hz, length)
    with torch.autocast(waveform.device.type, enabled=False):
        spectrum = torch.fft.rfft(waveform.float(), n=length)
        return torch.fft.irfft(spectrum.mul_(response), n=length)[:, :num_samples].to(waveform.dtype)


@constant
def _fast_length(length: int) -> int:
    """Return the shortest length of a fast transform that is at least this."""
    fast: int = next_fast_len(length, real=True)
    return fast


def _responses(kind: Tensor, frequency_hz: Tensor, sample_rate_hz: int, length: int) -> Tensor:
    """Return (B, F) complex64 responses at the angles w = 0 ... pi.

    Numerator and denominator are multiplied by exp(i w). Then the denominator of every filter is d + i b, with
    d = cos w - cos w0 and b = alpha sin w, and its numerator is (1 - cos w0) (1 + cos w) / 2 (low-pass),
    (1 + cos w0) (cos w - 1) / 2 (high-pass) or i b (band-pass). In float64 inside, as d cancels at low frequencies.
    """
    center = (2 * math.pi * frequency_hz.double() / sample_rate_hz)[:, None]
    angle = torch.arange(length // 2 + 1, device=kind.device, dtype=torch.float64) * (2 * math.pi / length)
    cosine = angle.cos()
    d, b = cosine - center.cos(), center.sin() / (2 * QUALITY) * angle.sin()
    side = torch.where(kind == KINDS.index("low"), 1.0, -1.0).double()[:, None]
    numerator = (1 - side * center.cos()) * (cosine + side) / 2
    is_band = (kind == KINDS.index("band"))[:, None]
    square = d.square().addcmul_(b, b)
    real = torch.where(is_band, b * b, numerator * d) / square
    imaginary = torch.where(is_band, b * d, -numerator * b) / square
    return torch.complex(real.float(), imaginary.float())
