"""Mel spectrograms of fixed length, as Whisper and CLAP take them: the waveform is padded to the window they know.

Sources: Radford et al., 2022 (Whisper), https://arxiv.org/abs/2212.04356, and Wu et al., 2023 (CLAP),
https://arxiv.org/abs/2211.06687, with the numbers of their feature extractors in transformers.

Dimensions: B clips, S samples.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
import torch.nn.functional as F
import torchaudio.functional
from torch import Tensor

from avssl.core.errors import InputError
from avssl.core.ranges import Count, Mels, Positive, PositiveOrZero, SampleRate, Seconds, WindowLength, checked
from avssl.transforms.front_end import FrontEnd

_FLOOR = 1e-10


class _PaddedMel(FrontEnd):
    """Base class: padded waveform, power spectrogram of centered windows, triangular filters."""

    filters: Tensor
    window: Tensor

    def __init__(
        self,
        sample_rate_hz: int,
        window_length: int,
        hop_length: int,
        seconds: float,
        filters: tuple[int, float, float, Literal["slaney", "htk"]],
    ) -> None:
        super().__init__(sample_rate_hz)
        self.hop_length, self.num_samples = hop_length, round(seconds * sample_rate_hz)
        num_mels, low, high, scale = filters
        self.frequencies = f"triangles on the {scale} mel scale, {low:g} to {high:g} Hz"
        norm = "slaney" if scale == "slaney" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # weights expect the empty filters of their training
            bank = torchaudio.functional.melscale_fbanks(
                window_length // 2 + 1, low, high, num_mels, sample_rate_hz, norm, scale
            )
        self.register_buffer("filters", bank, persistent=False)
        self.register_buffer("window", torch.hann_window(window_length), persistent=False)

    @property
    def num_bins(self) -> int:
        return self.filters.shape[1]

    @property
    def fixed_statistics(self) -> tuple[float, float]:
        return 0.0, 1.0

    def _padded(self, waveform: Tensor) -> Tensor:
        return F.pad(waveform, (0, self.num_samples - waveform.shape[1]))

    def _power(self, waveform: Tensor) -> Tensor:
        """Return (B, columns, num_mels) powers of the padded waveform.

        Raises:
            ValueError: If ``waveform`` is not (B, S) float, or longer than the window.
        """
        if waveform.ndim != 2 or not waveform.is_floating_point():
            raise InputError(f"waveform must be (B, S) float in [-1, 1], got {tuple(waveform.shape)} {waveform.dtype}.")
        if waveform.shape[1] > self.num_samples:
            raise InputError(f"waveform ({waveform.shape[1]} samples) must have at most {self.num_samples}.")
        with torch.autocast(waveform.device.type, enabled=False):
            samples = self._padded(waveform.float())
            length = len(self.window)
            spectrum = torch.stft(samples, length, self.hop_length, window=self.window, return_complex=True)
            return (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2) @ self.filters

    def describe(self) -> dict[str, Any]:
        return {
            "window": "hann, periodic",
            "window_length": len(self.window),
            "hop_length": self.hop_length,
            "padding": f"to {self.num_samples} samples, then half a window of the mirror image on both sides",
            "frequencies": self.frequencies,
            "floor_power": _FLOOR,
        }


@checked
class WhisperMel(_PaddedMel):
    """Log-mel spectrogram of Whisper: zeros behind the audio, 8 decades below the maximum at most.

    Args:
        sample_rate_hz: Sample rate of the waveforms, in Hz.
        num_mels: Number of mel filters.
        window_length: Samples of the Hann window and of the transform.
        hop_length: Samples from one column to the next.
        seconds: Length to which audio is padded.

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(
        self,
        sample_rate_hz: SampleRate = 16_000,
        num_mels: Mels = 80,
        window_length: WindowLength = 400,
        hop_length: Count = 160,
        seconds: Seconds = 30.0,
    ) -> None:
        top = sample_rate_hz / 2
        super().__init__(sample_rate_hz, window_length, hop_length, seconds, (num_mels, 0.0, top, "slaney"))

    def num_frames(self, num_samples: int) -> int:
        return self.num_samples // self.hop_length

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Convert (B, S) float in [-1, 1] to (B, 1, time, num_mels) float32."""
        logarithms = self._power(waveform)[:, : self.num_frames(0)].clamp(min=_FLOOR).log10()
        highest = logarithms.amax(dim=(1, 2), keepdim=True)
        return ((torch.maximum(logarithms, highest - 8.0) + 4.0) / 4.0)[:, None]

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"values": "(max(log10 of powers, the clip's maximum - 8) + 4) / 4"}


@checked
class ClapMel(_PaddedMel):
    """Mel spectrogram of CLAP in decibels: the audio is repeated as often as it fits, then zeros follow.

    Args:
        sample_rate_hz: Sample rate of the waveforms, in Hz.
        num_mels: Number of mel filters.
        window_length: Samples of the Hann window and of the transform.
        hop_length: Samples from one column to the next.
        seconds: Length to which audio is repeated and padded.
        min_hz: Lower edge of the lowest filter, in Hz.
        max_hz: Upper edge of the highest filter, in Hz.
        mel_scale: Scale of the filters: "slaney", or "htk" for models with fusion.

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(
        self,
        sample_rate_hz: SampleRate = 48_000,
        num_mels: Mels = 64,
        window_length: WindowLength = 1024,
        hop_length: Count = 480,
        seconds: Seconds = 10.0,
        min_hz: PositiveOrZero = 0.0,
        max_hz: Positive = 14_000.0,
        mel_scale: Literal["slaney", "htk"] = "slaney",
    ) -> None:
        bank = (num_mels, min_hz, max_hz, mel_scale)
        super().__init__(sample_rate_hz, window_length, hop_length, seconds, bank)

    def num_frames(self, num_samples: int) -> int:
        return 1 + self.num_samples // self.hop_length

    def _padded(self, waveform: Tensor) -> Tensor:
        return super()._padded(waveform.repeat(1, max(1, self.num_samples // waveform.shape[1])))

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Convert (B, S) float in [-1, 1] to (B, 1, time, num_mels) float32 decibels."""
        return (10 * self._power(waveform).clamp(min=_FLOOR).log10())[:, None]

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"values": "10 log10 of powers; the audio is repeated before it is padded"}
