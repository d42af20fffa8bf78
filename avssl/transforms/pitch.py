"""Pitch shift of a whole batch, with a number of semitones for each clip; length and tempo stay.

A phase vocoder (Laroche and Dolson, 1999) stretches the waveform, and band-limited interpolation reads it faster or
slower. Equals torchaudio.functional.pitch_shift, which takes one shift for all clips, up to the last window.

Dimensions: B clips, S samples, F bins, N columns of the spectrum.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 512
"""Samples of the window and of the transform, as in torchaudio."""
HOP = WINDOW // 4
_ROLLOFF, _NUM_ZEROS = 0.99, 6  # of the interpolation, as in torchaudio's resample


def pitch_shift(waveform: Tensor, semitones: Tensor, max_semitones: float, sample_rate_hz: int) -> Tensor:
    """Shift the pitch of each waveform.

    Args:
        waveform: (B, S) float, S > WINDOW // 2.
        semitones: (B,) shift of each clip; 0 leaves it as it is.
        max_semitones: Limit of the absolute shift; the work grows with it.
        sample_rate_hz: Samples a second.

    Returns:
        (B, S) of the type of ``waveform``.
    """
    most = 2.0 ** (max_semitones / 12)  # the largest stretch
    rate = 2.0 ** (-semitones.double() / 12)
    # A whole number of samples a second, as torchaudio rounds it.
    step = torch.floor(sample_rate_hz / rate) / sample_rate_hz
    with torch.autocast(waveform.device.type, enabled=False):
        stretched = _stretch(waveform.float(), rate, math.ceil(most * waveform.shape[1]))
        shifted = read_at_speed(stretched, step, most, waveform.shape[1])
    return torch.where(semitones[:, None] == 0, waveform, shifted.to(waveform.dtype))


def _stretch(waveform: Tensor, rate: Tensor, length: int) -> Tensor:
    """Return (B, length): waveforms slowed down by (B,) rates, zero after their ends."""
    window = torch.hann_window(WINDOW, device=waveform.device)
    spectrum = torch.stft(waveform, WINDOW, HOP, window=window, return_complex=True)  # (B, F, N)
    num_bins, num_columns = spectrum.shape[1:]
    time = torch.arange(math.ceil(length / HOP) + 1, device=waveform.device) * rate[:, None]  # (B, N') in columns
    is_inside = time < num_columns
    column = time.clamp(max=num_columns - 1).floor().long()
    between = (time - column)[:, None].float()

    norm, angle = F.pad(spectrum.abs(), (0, 1)), F.pad(spectrum.angle(), (0, 1))
    expected = torch.linspace(0, math.pi * HOP, num_bins, device=waveform.device)[:, None]
    advance = angle.diff(dim=2) - expected
    advance = advance - 2 * math.pi * torch.round(advance / (2 * math.pi)) + expected  # (B, F, N)

    index = column[:, None].expand(-1, num_bins, -1)
    magnitude = torch.lerp(norm.gather(2, index), norm.gather(2, index + 1), between) * is_inside[:, None]
    steps = torch.cat([angle[..., :1], advance.gather(2, index)[..., :-1]], dim=2)
    # Summed in float64: hundreds of steps of hundreds of radians.
    phase = steps.double().cumsum(dim=2).remainder(2 * math.pi).float()
    return torch.istft(torch.polar(magnitude, phase), WINDOW, HOP, window=window, length=length)


def read_at_speed(waveform: Tensor, speed: Tensor, max_speed: float, length: int) -> Tensor:
    """Return (B, length): waveforms read from their start at (B,) speeds, with frequencies above the new limit removed.

    The interpolation is that of torchaudio.functional.resample: a sinc of 6 zeros on either side under a Hann window.

    Args:
        waveform: (B, S) float32.
        speed: (B,) float64, samples of the input per sample of the output, > 0.
        max_speed: Limit of ``speed``.
        length: Samples of the output; beyond the end there is silence.
    """
    cutoff = (_ROLLOFF / speed.clamp(min=1))[:, None]  # as a fraction of the input's limit
    reach = math.ceil(_NUM_ZEROS * max(1.0, max_speed) / _ROLLOFF)
    position = torch.arange(length, device=waveform.device) * speed[:, None]
    left = position.floor()
    fraction = ((position - left) * cutoff).float()
    padded = F.pad(waveform, (reach, 1))
    first = left.long() + reach
    cutoff = cutoff.float()

    output = torch.zeros_like(fraction)
    for tap in range(-reach, reach + 1):
        distance = (fraction - tap * cutoff).clamp_(-_NUM_ZEROS, _NUM_ZEROS)  # in zeros of the sinc
        weight = torch.sinc(distance).mul_(distance.mul_(math.pi / (2 * _NUM_ZEROS)).cos_().square_())
        output.addcmul_(weight, padded.gather(1, (first + tap).clamp_(0, padded.shape[1] - 1)))
    return output * cutoff
