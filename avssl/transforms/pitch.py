"""Pitch shift of a whole batch, with a number of semitones for each clip; length and tempo stay.

A phase vocoder (Laroche and Dolson, 1999) stretches the waveform, and band-limited interpolation reads it faster or
slower. Equals torchaudio.functional.pitch_shift, which takes one shift for all clips, up to the last window.

Neither part evaluates a sine or cosine per sample. Phases are summed by multiplying numbers of absolute value 1, and
the sinc of the interpolation is a polynomial between two samples (the filter of Farrow, 1988).

Dimensions: B clips, S samples, F bins, N columns of the spectrum.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.draws import fake_mode_of

WINDOW = 512
"""Samples of the window and of the transform, as in torchaudio."""
HOP = WINDOW // 4
_ROLLOFF, _NUM_ZEROS = 0.99, 6  # of the interpolation, as in torchaudio's resample
_NUM_COEFFICIENTS = 8  # of the polynomials; the error is 1e-5 of a waveform of power 1, 1e-4 with 7
_NODES = torch.cos((torch.arange(_NUM_COEFFICIENTS).double() + 0.5) * math.pi / _NUM_COEFFICIENTS)  # Chebyshev's
_FIT = torch.linalg.inv(torch.vander(_NODES, increasing=True))  # from values at the nodes to coefficients


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
    spectrum = torch.stft(waveform, WINDOW, HOP, window=window, return_complex=True).transpose(1, 2)  # (B, N, F)
    num_columns = spectrum.shape[1]
    time = torch.arange(math.ceil(length / HOP) + 1, device=waveform.device) * rate[:, None]  # (B, N') in columns
    is_inside = time < num_columns
    column = time.clamp(max=num_columns - 1).floor().long()
    between = (time - column)[:, :, None].float()

    norm = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag).sqrt_()
    is_silent = norm == 0
    unit = torch.view_as_real(spectrum).mul_((norm + is_silent).reciprocal_()[..., None])  # exp(i phase)
    unit[..., 0].masked_fill_(is_silent, 1.0)
    unit = torch.view_as_complex(unit)
    # How far the phase turns from one column to the next; the first is where it starts, and behind the last it is 0.
    turn = torch.cat([unit[:, :1], unit[:, 1:] * unit[:, :-1].conj(), unit[:, -1:].conj()], dim=1)
    norm = F.pad(norm, (0, 0, 0, 1))
    magnitude = torch.lerp(_rows(norm, column), _rows(norm, column + 1), between)
    magnitude.mul_(is_inside[:, :, None])
    # The product of 10 000 rounded factors, 50 s of audio, is within 1e-5 of absolute value 1.
    stretched = _rows(turn, F.pad(column[:, :-1] + 1, (1, 0))).cumprod(dim=1)
    torch.view_as_real(stretched).mul_(magnitude[..., None])
    return _overlap_add(torch.fft.irfft(stretched, n=WINDOW) * window, window, length)


def _overlap_add(pieces: Tensor, window: Tensor, length: int) -> Tensor:
    """Return (B, length): the sum of (B, N, WINDOW) pieces, HOP samples apart, over that of the squared windows.

    Equals the second half of torch.istft, which takes several times as long on a CPU.
    """
    total, weight = (_sum_of_shifted(x) for x in (pieces, window.square().expand(1, len(pieces[0]), -1)))
    middle = slice(WINDOW // 2, WINDOW // 2 + length)
    return total[:, middle] / weight[:, middle]


def _sum_of_shifted(pieces: Tensor) -> Tensor:
    """Return the sum of (B, N, WINDOW) pieces, each HOP samples after the one before."""
    num_clips, num_pieces, _ = pieces.shape
    overlap = WINDOW // HOP
    total = pieces.new_zeros(num_clips, num_pieces + overlap - 1, HOP)
    for number, part in enumerate(pieces.unflatten(2, (overlap, HOP)).unbind(2)):
        total[:, number : number + num_pieces] += part
    return total.flatten(1)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Return (B, N', F): the columns ``index``, (B, N') int64, of each clip of (B, N, F)."""
    num_clips, num_columns, _ = x.shape
    first = torch.arange(num_clips, device=x.device)[:, None] * num_columns
    return x.flatten(0, 1).index_select(0, (first + index).flatten()).unflatten(0, index.shape)


def read_at_speed(waveform: Tensor, speed: Tensor, max_speed: float, length: int) -> Tensor:
    """Return (B, length): waveforms read from their start at (B,) speeds, with frequencies above the new limit removed.

    The interpolation is that of torchaudio.functional.resample: a sinc of 6 zeros on either side under a Hann window.

    Args:
        waveform: (B, S) float32.
        speed: (B,) float64, samples of the input per sample of the output, > 0.
        max_speed: Limit of ``speed``.
        length: Samples of the output; beyond the end there is silence.
    """
    reach = math.ceil(_NUM_ZEROS * max(1.0, max_speed) / _ROLLOFF)
    kernels = _kernels(speed, reach).to(waveform.dtype)  # (B, K, taps)
    position = torch.arange(length, device=waveform.device) * speed[:, None]
    left = position.floor()
    place = ((position - left) * 2 - 1).to(waveform.dtype)  # between two samples, in [-1, 1)
    index = left.long().clamp_(max=waveform.shape[1])
    padded = F.pad(waveform, (reach, reach + 1))
    terms = _convolve_each(padded, kernels)  # (B, K, S + 1): the coefficients at every sample
    output = terms[:, -1].gather(1, index)
    for term in terms[:, :-1].unbind(1)[::-1]:
        output = torch.addcmul(term.gather(1, index), output, place)
    return output


@torch.library.custom_op("avssl::convolve_each", mutates_args=())
def _convolve_each(waveform: Tensor, kernels: Tensor) -> Tensor:
    """Return (B, K, S - taps + 1): each of (B, S) waveforms convolved with its own (B, K, taps) kernels.

    An operation of its own, because torch.compile cannot trace the setting of cuDNN.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 would keep 10 bits of each sample
        terms = F.conv1d(waveform[None], kernels.flatten(0, 1)[:, None], groups=len(waveform))[0]
    return terms.unflatten(0, kernels.shape[:2])


@_convolve_each.register_fake
def _(waveform: Tensor, kernels: Tensor) -> Tensor:
    return waveform.new_empty(*kernels.shape[:2], waveform.shape[1] - kernels.shape[2] + 1)


@lru_cache(maxsize=32)
def _nodes_and_fit(device: torch.device, mode: object) -> tuple[Tensor, Tensor]:
    """Copy the constants to a device once."""
    return _NODES.to(device), _FIT.to(device)


def _kernels(speed: Tensor, reach: int) -> Tensor:
    """Return (B, K, 2 * reach + 1) float64: each tap as a polynomial of the place between two samples, in [-1, 1)."""
    nodes, fit = _nodes_and_fit(speed.device, fake_mode_of(speed))
    taps = torch.arange(-reach, reach + 1, dtype=torch.float64, device=speed.device)
    cutoff = (_ROLLOFF / speed.clamp(min=1))[:, None, None]  # as a fraction of the input's limit
    distance = ((nodes[:, None] + 1) / 2 - taps) * cutoff  # in zeros of the sinc
    distance = distance.clamp(-_NUM_ZEROS, _NUM_ZEROS)
    values = cutoff * torch.sinc(distance) * torch.cos(distance * (math.pi / (2 * _NUM_ZEROS))).square()
    return fit @ values
