"""Filter banks of Kaldi, the audio input of AST, CAV-MAE and the models that follow them.

Source: Povey et al., "The Kaldi speech recognition toolkit", ASRU 2011, and the settings of AST (Gong et al., 2021,
https://arxiv.org/abs/2104.01778): windows of 25 ms every 10 ms that lie inside the waveform, each without its mean,
with pre-emphasis and a Hann window; triangular filters on Kaldi's mel scale from 20 Hz to half the sample rate; the
natural logarithm. ``torchaudio.compliance.kaldi.fbank`` computes the same for one waveform.

Dimensions: B clips, S samples, W samples of a window.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.compliance.kaldi import get_mel_banks

from avssl.core.errors import InputError
from avssl.core.ranges import Count, Mels, Positive, SampleRate, Signed, checked
from avssl.transforms.front_end import FrontEnd

WINDOW_SECONDS, HOP_SECONDS = 0.025, 0.010
PREEMPHASIS = 0.97
MIN_HZ = 20.0
FLOOR = torch.finfo(torch.float32).eps
"""Lower limit of the energy of a filter: silence is log(1.2e-7), about -15.9."""


@checked
class KaldiFbank(FrontEnd):
    """Kaldi's log-mel filter banks, as AST and CAV-MAE take them.

    Args:
        sample_rate_hz: Sample rate of the waveforms, in Hz.
        num_mels: Number of mel filters.
        num_columns: Columns of the output: shorter audio is filled with zeros, longer audio is cut. None keeps the
            columns of the audio.
        mean: Mean by which the encoder wants all values standardized; None for that of each bin of the training rows.
        std: Standard deviation for that.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> KaldiFbank()(torch.randn(1, 16000)).shape  # 1 + (16000 - 400) // 160 windows of a second
        torch.Size([1, 1, 98, 128])
    """

    filters: Tensor
    window: Tensor

    def __init__(
        self,
        sample_rate_hz: SampleRate = 16_000,
        num_mels: Mels = 128,
        num_columns: Count | None = None,
        mean: Signed | None = None,
        std: Positive | None = None,
    ) -> None:
        super().__init__(sample_rate_hz)
        self.hop_length, length = int(sample_rate_hz * HOP_SECONDS), int(sample_rate_hz * WINDOW_SECONDS)
        self.num_columns = num_columns
        if (mean is None) != (std is None):
            raise InputError(f"mean ({mean}) and std ({std}) must be set together.")
        self._statistics = None if mean is None or std is None else (mean, std)
        self.transform_length = 1 << (length - 1).bit_length()  # the next power of two
        filters, _ = get_mel_banks(
            num_mels, self.transform_length, float(sample_rate_hz), MIN_HZ, sample_rate_hz / 2, 100.0, -500.0, 1.0
        )
        # Some of the lowest lie between two bins and are empty: their output is the floor, as weights expect.
        self.register_buffer("filters", F.pad(filters, (0, 1)), persistent=False)
        self.register_buffer("window", torch.hann_window(length, periodic=False), persistent=False)

    @property
    def num_bins(self) -> int:
        return self.filters.shape[0]

    @property
    def fixed_statistics(self) -> tuple[float, float] | None:
        return self._statistics

    def num_frames(self, num_samples: int) -> int:
        return self.num_columns or 1 + (num_samples - len(self.window)) // self.hop_length

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Convert (B, S) float in [-1, 1] to (B, 1, time, num_mels) float32 natural logarithms.

        Raises:
            ValueError: If ``waveform`` is not (B, S) float, or shorter than one window.
        """
        if waveform.ndim != 2 or not waveform.is_floating_point():
            raise InputError(f"waveform must be (B, S) float in [-1, 1], got {tuple(waveform.shape)} {waveform.dtype}.")
        if waveform.shape[1] < len(self.window):
            raise InputError(
                f"waveform ({waveform.shape[1]} samples) must have at least {len(self.window)}, one window of 25 ms."
            )
        with torch.autocast(waveform.device.type, enabled=False):  # half precision would lose the quiet filters
            frames = waveform.float().unfold(1, len(self.window), self.hop_length)  # (B, time, W)
            frames = frames - frames.mean(dim=2, keepdim=True)
            before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
            spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * self.window, self.transform_length)
            power = spectrum.real.square() + spectrum.imag.square()
            logarithms = (power @ self.filters.T).clamp_(min=FLOOR).log_()
        if self.num_columns is not None:
            logarithms = F.pad(logarithms, (0, 0, 0, self.num_columns - logarithms.shape[1]))
        return logarithms[:, None].contiguous()

    def describe(self) -> dict[str, Any]:
        return {
            "window": "hann, symmetric, after subtracting each window's mean and a pre-emphasis of 0.97",
            "window_length": len(self.window),
            "hop_length": self.hop_length,
            "padding": "none: windows lie inside the waveform; columns are filled with 0 to num_columns",
            "num_columns": self.num_columns,
            "frequencies": "triangles on Kaldi's mel scale",
            "min_hz": MIN_HZ,
            "max_hz": self.sample_rate_hz / 2,
            "values": "natural logarithms of energies, then (value - mean) / (std + epsilon)",
            "floor_power": FLOOR,
        }

    def extra_repr(self) -> str:
        return f"sample_rate_hz={self.sample_rate_hz}, num_bins={self.num_bins}, num_columns={self.num_columns}"
