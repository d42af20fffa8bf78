"""Base class of the modules that turn waveforms into the input of an audio encoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class FrontEnd(nn.Module):
    """Maps (B, S) float waveforms to (B, 1, time, freq), a whole batch at once.

    Args:
        sample_rate_hz: Sample rate of the waveforms, in Hz.

    Example:
        >>> class Loudness(FrontEnd):
        ...     num_bins = 1
        ...     def num_frames(self, num_samples):
        ...         return num_samples // self.sample_rate_hz
        ...     def forward(self, waveform):
        ...         return waveform.unflatten(1, (-1, self.sample_rate_hz)).square().mean(dim=2)[:, None, :, None]
        >>> Loudness(16000)(torch.ones(2, 48000)).shape
        torch.Size([2, 1, 3, 1])
    """

    def __init__(self, sample_rate_hz: int) -> None:
        super().__init__()
        self.sample_rate_hz = sample_rate_hz

    @property
    def num_bins(self) -> int:
        """Size of the last dimension of the output."""
        raise NotImplementedError

    @property
    def fixed_statistics(self) -> tuple[float, float] | None:
        """Mean and standard deviation by which the encoder wants every value standardized; None to estimate them."""
        return None

    def num_frames(self, num_samples: int) -> int:
        """Return the number of columns for ``num_samples`` samples."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Return the computation in plain values that another program can follow, for the ``input`` of a release."""
        raise NotImplementedError

    def forward(self, waveform: Tensor) -> Tensor:
        """Convert (B, S) float in [-1, 1] to (B, 1, time, freq) float32."""
        raise NotImplementedError
