"""Audio augmentation: random gain, and masks over the spectrogram.

Dimensions: B clips, S samples.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.draws import integers, uniform
from avssl.core.errors import InputError
from avssl.core.ranges import CountOrZero, PositiveOrZero, checked

MASK_PARTS = 8
"""Equal parts of an axis of the spectrogram in :meth:`SpectrogramMask.draws`."""


@checked
class RandomGain(nn.Module):
    """Scales each waveform by its own random factor.

    Args:
        gain: Lowest and highest factor of the amplitude, 0 < low <= high; the default is AVID's.

    Raises:
        ValueError: If the range is empty or not above 0.

    Example:
        >>> RandomGain((0.5, 0.5))(torch.ones(1, 4), torch.tensor([0]))  # always half the amplitude
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """

    def __init__(self, gain: tuple[PositiveOrZero, PositiveOrZero] = (0.9, 1.1)) -> None:
        super().__init__()
        self.low, self.high = gain
        if not 0 < self.low <= self.high:
            raise InputError(f"gain [{self.low}, {self.high}] must be ascending and above 0.")

    @torch.no_grad()
    def forward(self, waveform: Tensor, key: Tensor, view: int = 0) -> Tensor:
        """Scale (B, S) float waveforms by factors drawn from (B,) int64 keys; not clamped to [-1, 1]."""
        return waveform * self._factor(key, view).to(waveform.dtype)

    def draws(self, key: Tensor, view: int = 0) -> Tensor:
        """Return the (B, 1) natural logarithm of the gain of each clip."""
        return self._factor(key, view).log()

    def _factor(self, key: Tensor, view: int) -> Tensor:
        return uniform(key, f"gain/{view}", 1, self.low, self.high)

    def extra_repr(self) -> str:
        return f"low={self.low}, high={self.high}"


@checked
class SpectrogramMask(nn.Module):
    """Masks random spans of time and of frequency, in standardized spectrograms, by their mean, 0.

    Source: Park et al., 2019 (SpecAugment), https://arxiv.org/abs/1904.08779, section 2, without the time warping.

    Args:
        max_time_width: Maximum width of a time mask, in columns of the spectrogram; 0 for no mask.
        max_freq_width: Maximum width of a frequency mask, in bins; 0 for no mask.
        num_time_masks: Time masks per clip; they may overlap.
        num_freq_masks: Frequency masks per clip; they may overlap.

    Raises:
        ValueError: If a setting is negative.

    Example:
        >>> mask = SpectrogramMask(max_time_width=20, num_time_masks=2)
        >>> masked = mask(torch.ones(1, 1, 100, 64), torch.tensor([0]))
        >>> int((masked[0, 0, :, 0] == 0).sum()) <= 40
        True
    """

    def __init__(
        self,
        max_time_width: CountOrZero = 0,
        max_freq_width: CountOrZero = 0,
        num_time_masks: CountOrZero = 1,
        num_freq_masks: CountOrZero = 1,
    ) -> None:
        super().__init__()
        settings = (max_time_width, max_freq_width, num_time_masks, num_freq_masks)
        if min(settings) < 0:
            raise InputError(f"widths and numbers of masks must be >= 0, got {settings}.")
        self.max_time_width, self.max_freq_width = max_time_width, max_freq_width
        self.num_time_masks, self.num_freq_masks = num_time_masks, num_freq_masks

    @torch.no_grad()
    def forward(self, spectrogram: Tensor, key: Tensor, view: int = 0) -> Tensor:
        """Mask each clip.

        Args:
            spectrogram: (B, 1, time, freq) float, standardized.
            key: (B,) int64 random key of each clip.
            view: Number of the view, >= 0.

        Returns:
            The same shape, 0 under the masks.

        Raises:
            ValueError: If a mask may be wider than the spectrogram.
        """
        _, _, num_columns, num_bins = spectrogram.shape
        in_time, in_frequency = self._masked(num_columns, num_bins, key, view)
        for masked, shape in ((in_time, (-1, 1, num_columns, 1)), (in_frequency, (-1, 1, 1, num_bins))):
            if masked is not None:
                spectrogram = spectrogram.masked_fill(masked.view(shape), 0.0)
        return spectrogram

    def draws(self, num_columns: int, num_bins: int, key: Tensor, view: int = 0) -> Tensor:
        """Return (B, 2 * :data:`MASK_PARTS`): the masked share of equal parts of the time, then of the frequencies."""
        shares = []
        for masked in self._masked(num_columns, num_bins, key, view):
            if masked is None:
                shares.append(torch.zeros(len(key), MASK_PARTS, device=key.device))
            else:
                shares.append(F.adaptive_avg_pool1d(masked.float()[:, None], MASK_PARTS)[:, 0])
        return torch.cat(shares, dim=1)

    def _masked(self, num_columns: int, num_bins: int, key: Tensor, view: int) -> list[Tensor | None]:
        """Return the masked columns (B, num_columns) and bins (B, num_bins), bool; None for no mask."""
        masks = (
            ("time", num_columns, self.max_time_width, self.num_time_masks),
            ("freq", num_bins, self.max_freq_width, self.num_freq_masks),
        )
        masked: list[Tensor | None] = []
        for axis, length, max_width, count in masks:
            if max_width > length:
                raise InputError(f"max_{axis}_width ({max_width}) must not exceed the spectrogram's {length}.")
            is_used = bool(max_width and count)
            masked.append(random_spans(key, f"mask {axis}/{view}", length, max_width, count) if is_used else None)
        return masked

    def extra_repr(self) -> str:
        return (
            f"max_time_width={self.max_time_width}, max_freq_width={self.max_freq_width}, "
            f"num_time_masks={self.num_time_masks}, num_freq_masks={self.num_freq_masks}"
        )


def random_spans(key: Tensor, purpose: str, length: int, max_width: int, count: int) -> Tensor:
    """Return (B, length) bool: the union of ``count`` random spans per clip, each inside [0, length).

    Widths are uniform in {0, ..., max_width}; starts are uniform where the span fits.
    """
    width = integers(key, f"{purpose}/width", count, max_width + 1)
    start = (uniform(key, f"{purpose}/start", count) * (length - width + 1)).long()
    position = torch.arange(length, device=key.device)
    inside = (position >= start[..., None]) & (position < (start + width)[..., None])  # (B, count, length)
    return inside.any(dim=1)
