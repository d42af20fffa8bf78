"""Log spectrograms of waveforms, time first, for a whole batch at once.

Two front ends share the short-time Fourier transform and the decibel scale: AVID's, linear in
frequency, and the log-mel of most of the field. A waveform is float in [-1, 1], as readers
return it; AVID's int16 samples divided by 32 767 have the same scale.

Frames are centered: column t covers the window around sample t * hop. S samples give S // hop columns (2 s at 24 kHz
and 10 ms: 200), all but the last centered one. Half of the first window lies before the waveform:
``padding="constant"``, the default, fills it with zeros, as librosa does since 0.10; ``"reflect"`` mirrors the
waveform, as librosa did when AVID was published. Only the columns within half a window of the ends differ.

Dimensions: B clips, S samples, F bins of the Fourier transform.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
import torchaudio.functional
from einops import reduce
from torch import Tensor

from avssl.core.errors import InputError
from avssl.core.ranges import Mels, Positive, PositiveOrZero, SampleRate, Seconds, WindowLength, checked
from avssl.transforms.front_end import FrontEnd

Padding = Literal["constant", "reflect"]

FLOOR_POWER = 1e-10
"""Lower limit of powers: -100 dB, so that silence is finite."""
DYNAMIC_RANGE_DB = 100.0
"""Values more than this below the clip's maximum are raised to that limit."""


def power_spectrogram(waveform: Tensor, window: Tensor, hop_length: int, padding: Padding = "constant") -> Tensor:
    """Compute the squared magnitude of the short-time Fourier transform.

    Args:
        waveform: (B, S) float, S >= hop_length.
        window: (window_length,) float; also the length of the transform.
        hop_length: Samples from one column to the next.
        padding: Padding before the first and after the last sample: zeros or the mirror image.

    Returns:
        (B, F, S // hop_length) float32, F = window_length // 2 + 1, not scaled by the window.

    Raises:
        ValueError: If ``waveform`` is not (B, S) float, or too short for one column or for ``padding``.
    """
    if waveform.ndim != 2 or not waveform.is_floating_point():
        raise InputError(
            "waveform must be (B, S) float in [-1, 1] (divide int16 samples by 32767), "
            f"got {tuple(waveform.shape)} {waveform.dtype}."
        )
    shortest = hop_length if padding == "constant" else max(hop_length, len(window) // 2 + 1)
    if waveform.shape[1] < shortest:
        raise InputError(
            f'waveform ({waveform.shape[1]} samples) must have at least {shortest} with padding="{padding}". '
            "Decode a longer audio window."
        )
    # Half precision would lose the quiet bins: powers span over 100 dB.
    with torch.autocast(waveform.device.type, enabled=False):
        spectrum = torch.stft(
            waveform.float(), len(window), hop_length, window=window, center=True, pad_mode=padding, return_complex=True
        )
    spectrum = spectrum[..., : waveform.shape[1] // hop_length]
    return spectrum.real.square() + spectrum.imag.square()


def average_bin_pairs(power: Tensor) -> Tensor:
    """Average (B, F, time) bins in pairs, keeping DC: (B, 1 + (F - 1) // 2, time).

    AVID halves the frequency axis like this: 513 bins become 257.
    """
    return torch.cat([power[:, :1], reduce(power[:, 1:], "b (f pair) t -> b f t", "mean", pair=2)], dim=1)


def to_decibels(power: Tensor) -> Tensor:
    """Compute 10 log10 of powers, limited to 100 dB below each clip's maximum.

    Args:
        power: (B, ...) float, >= 0.

    Returns:
        The same shape; finite, -100 dB for silence.
    """
    decibels = power.clamp(min=FLOOR_POWER).log10().mul_(10)
    peak = decibels.flatten(1).amax(dim=1).view(-1, *[1] * (power.ndim - 1))
    return torch.maximum(decibels, peak - DYNAMIC_RANGE_DB)


class _Spectrogram(FrontEnd):
    """Base class of the two front ends: the window, the hop and the order of the axes."""

    window: Tensor

    def __init__(
        self, sample_rate_hz: SampleRate, window_length: WindowLength, hop_seconds: Seconds, padding: Padding
    ) -> None:
        super().__init__(sample_rate_hz)
        if window_length < 4 or window_length % 4:
            raise InputError(f"window_length ({window_length}) must be a multiple of 4 samples; AVID's is 1024.")
        if padding not in ("constant", "reflect"):
            raise InputError(f'padding ({padding!r}) must be "constant" or "reflect".')
        self.hop_length = round(hop_seconds * sample_rate_hz)
        if self.hop_length < 1:
            raise InputError(f"hop_seconds ({hop_seconds}) is less than a sample at {sample_rate_hz} Hz.")
        self.padding: Padding = padding
        self.register_buffer("window", torch.hann_window(window_length, periodic=True), persistent=False)

    def num_frames(self, num_samples: int) -> int:
        return num_samples // self.hop_length

    def _frequencies(self) -> dict[str, Any]:
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        return {
            "window": "hann, periodic",
            "window_length": len(self.window),
            "hop_length": self.hop_length,
            "padding": self.padding,
            **self._frequencies(),
            "values": "10 log10 of powers, then (value - mean) / (std + epsilon)",
            "floor_power": FLOOR_POWER,
            "dynamic_range_db": DYNAMIC_RANGE_DB,
        }

    def bins(self, power: Tensor) -> Tensor:
        """Return the (B, num_bins, time) averages of the bins of (B, F, time) powers."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Convert (B, S) float in [-1, 1] to (B, 1, time, freq) float32 in dB.

        Raises:
            ValueError: See :func:`power_spectrogram`.
        """
        power = power_spectrogram(waveform, self.window, self.hop_length, self.padding)
        return to_decibels(self.bins(power)).transpose(1, 2).contiguous()[:, None]

    def extra_repr(self) -> str:
        return (
            f"sample_rate_hz={self.sample_rate_hz}, window_length={len(self.window)}, "
            f"hop_length={self.hop_length}, num_bins={self.num_bins}, padding={self.padding!r}"
        )


@checked
class LogSpectrogram(_Spectrogram):
    """AVID's log spectrogram: linear in frequency, neighboring bins averaged in pairs.

    Source: Morgado et al., 2021, https://arxiv.org/abs/2004.12943, and the settings its authors ran.

    Args:
        sample_rate_hz: Sample rate of the waveforms, in Hz.
        window_length: Samples of the (periodic) Hann window and of the transform. 1024 gives 257
            bins; AVID's ablations have 512 and 129 bins, with ``hop_seconds=0.020``.
        hop_seconds: Time from one column to the next, in seconds.
        padding: Padding of the waveform: zeros ("constant") or its mirror image ("reflect").

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> decibels = LogSpectrogram()(torch.zeros(1, 48000))  # 2 s of silence
        >>> decibels.shape, decibels.max()
        (torch.Size([1, 1, 200, 257]), tensor(-100.))
    """

    def __init__(
        self,
        sample_rate_hz: SampleRate = 24_000,
        window_length: WindowLength = 1024,
        hop_seconds: Seconds = 0.010,
        padding: Padding = "constant",
    ) -> None:
        super().__init__(sample_rate_hz, window_length, hop_seconds, padding)

    @property
    def num_bins(self) -> int:
        return 1 + len(self.window) // 4

    def _frequencies(self) -> dict[str, Any]:
        return {"frequencies": "linear, bins 1 and 2, 3 and 4 ... averaged"}

    def bins(self, power: Tensor) -> Tensor:
        return average_bin_pairs(power)


@checked
class LogMel(_Spectrogram):
    """Log-mel spectrogram: triangular filters on the HTK mel scale over the power spectrum.

    Args:
        sample_rate_hz: Sample rate of the waveforms, in Hz.
        num_mels: Number of mel filters.
        window_length: Samples of the (periodic) Hann window and of the transform.
        hop_seconds: Time from one column to the next, in seconds.
        min_hz: Lower edge of the lowest filter, in Hz.
        max_hz: Upper edge of the highest filter, in Hz; None for half the sample rate.
        padding: Padding of the waveform: zeros ("constant") or its mirror image ("reflect").

    Raises:
        ValueError: If a setting is out of range, or a filter falls between two bins and is empty.

    Example:
        >>> spectrogram = LogMel(sample_rate_hz=16000, num_mels=64)
        >>> spectrogram(torch.randn(2, 32000)).shape  # 2 s of 100 columns each
        torch.Size([2, 1, 200, 64])
    """

    filters: Tensor

    def __init__(
        self,
        sample_rate_hz: SampleRate = 24_000,
        num_mels: Mels = 64,
        window_length: WindowLength = 1024,
        hop_seconds: Seconds = 0.010,
        min_hz: PositiveOrZero = 0.0,
        max_hz: Positive | None = None,
        padding: Padding = "constant",
    ) -> None:
        super().__init__(sample_rate_hz, window_length, hop_seconds, padding)
        top = sample_rate_hz / 2 if max_hz is None else max_hz
        if not 0 <= min_hz < top <= sample_rate_hz / 2:
            raise InputError(f"min_hz ({min_hz}) and max_hz ({top}) must be ascending in [0, {sample_rate_hz / 2}].")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty filter raises an error below
            filters = torchaudio.functional.melscale_fbanks(
                window_length // 2 + 1, min_hz, top, num_mels, sample_rate_hz
            )
        empty = int((filters.amax(dim=0) <= 0).sum())
        if empty:
            raise InputError(
                f"{empty} of {num_mels} mel filters are empty with a window of {window_length} samples at "
                f"{sample_rate_hz} Hz. Use fewer num_mels or a longer window_length."
            )
        self.min_hz, self.max_hz = min_hz, top
        self.register_buffer("filters", filters, persistent=False)

    @property
    def num_bins(self) -> int:
        return self.filters.shape[1]

    def _frequencies(self) -> dict[str, Any]:
        return {"frequencies": "triangles on the HTK mel scale", "min_hz": self.min_hz, "max_hz": self.max_hz}

    def bins(self, power: Tensor) -> Tensor:
        with torch.autocast(power.device.type, enabled=False):
            return self.filters.T @ power
