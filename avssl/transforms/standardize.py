"""Standardization of each frequency bin with statistics of the training data, saved with the weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from avssl.core.errors import InputError, RunError

EPSILON = 1e-5
"""Added to the standard deviation, in dB; AVID's."""


class Standardize(nn.Module):
    """``(x - mean) / (std + 1e-5)`` for each frequency bin.

    ``mean`` and ``std`` are buffers, saved and loaded with the weights. Until they are set or loaded
    they are NaN, and ``forward`` raises an error.

    Args:
        num_bins: Number of frequency bins, the last dimension of the spectrograms.

    Example:
        >>> standardize = Standardize(num_bins=2)
        >>> standardize.set_statistics(mean=torch.tensor([-50.0, -60.0]), std=torch.tensor([10.0, 10.0]))
        >>> standardize(torch.full((1, 1, 1, 2), -50.0))  # 0 and 10 dB above the mean
        tensor([[[[0.0000, 1.0000]]]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_bins: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((num_bins,), torch.nan))
        self.register_buffer("std", torch.full((num_bins,), torch.nan))
        self._is_checked = False

    @property
    def is_ready(self) -> bool:
        """True if the statistics are set. Reads from the device until they are."""
        if not self._is_checked:
            self._is_checked = bool(torch.isfinite(self.mean).all() and torch.isfinite(self.std).all())
        return self._is_checked

    def check(self) -> None:
        """Raise RuntimeError if no statistics were set or loaded."""
        if not self.is_ready:
            raise RunError(
                "the spectrogram statistics were never estimated: mean and std are NaN. "
                "Call set_statistics(*estimate_statistics(spectrograms of the training data)), or load weights."
            )

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set (freq,) statistics in dB, as returned by :func:`estimate_statistics`.

        Raises:
            ValueError: If a shape is not (num_bins,), a value is not finite, or a std is negative.
        """
        for name, value in (("mean", mean), ("std", std)):
            if value.shape != self.mean.shape:
                raise InputError(f"{name} must be {tuple(self.mean.shape)}, got {tuple(value.shape)}.")
            if not torch.isfinite(value).all() or (name == "std" and (value < 0).any()):
                raise InputError(f"{name} must be finite, and std not negative; look for NaN in the spectrograms.")
        self.mean.copy_(mean)
        self.std.copy_(std)
        self._is_checked = False

    def set_fixed(self, mean: float, std: float) -> None:
        """Set the same statistics for every bin, so that the output is ``(x - mean) / std``."""
        self.set_statistics(torch.full_like(self.mean, mean), torch.full_like(self.std, std - EPSILON))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._is_checked = False

    @torch.no_grad()
    def forward(self, spectrogram: Tensor) -> Tensor:
        """Standardize (B, 1, time, freq) float in dB to about zero mean and unit variance in each bin.

        Raises:
            RuntimeError: If no statistics were set or loaded.
        """
        if not torch.compiler.is_compiling():  # a program is made of a module that was checked
            self.check()
        return (spectrogram - self.mean) / (self.std + EPSILON)

    def extra_repr(self) -> str:
        return f"num_bins={len(self.mean)}"


def estimate_statistics(spectrograms: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute the mean and population standard deviation of each frequency bin, over clips and time.

    Batches are read one at a time and summed in float64, so the data may be of any size.

    Args:
        spectrograms: Batches of (B, 1, time, freq) in dB, of any B and time.

    Returns:
        Two (freq,) float32 tensors.

    Raises:
        ValueError: If there is no batch, a batch has another shape, or a value is not finite.

    Example:
        >>> batches = [torch.zeros(4, 1, 100, 2), torch.full((4, 1, 100, 2), 2.0)]
        >>> estimate_statistics(batches)
        (tensor([1., 1.]), tensor([1., 1.]))
    """
    count, total, total_square = 0, torch.zeros(()), torch.zeros(())
    shift: Tensor | None = None  # the first batch's mean: sums relative to it keep a small spread exact
    for batch in spectrograms:
        if batch.ndim != 4 or batch.shape[1] != 1 or (shift is not None and batch.shape[-1] != len(shift)):
            raise InputError(f"a batch must be (B, 1, time, freq) with the same freq in all, got {tuple(batch.shape)}.")
        values = rearrange(batch.detach().double(), "b 1 t f -> (b t) f")
        if shift is None:
            shift = values.mean(dim=0)
        values = values - shift
        count += len(values)
        total, total_square = total + values.sum(dim=0), total_square + values.square().sum(dim=0)
    if shift is None or not count:
        raise InputError("no spectrogram to estimate statistics from: the training data yielded no batch.")
    mean = total / count
    std = (total_square / count - mean.square()).clamp(min=0).sqrt()
    if not bool(torch.isfinite(mean).all() and torch.isfinite(std).all()):
        raise InputError("a spectrogram holds NaN or infinite values; look for them in the waveforms.")
    return (mean + shift).float(), std.float()
