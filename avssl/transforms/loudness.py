"""Levels of waveforms: audible parts, and a second waveform added at a given ratio."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def loud_parts(waveform: Tensor, num_parts: int, threshold_dbfs: float) -> Tensor:
    """Return which parts of a waveform are louder than a threshold.

    Args:
        waveform: (B, S) float in [-1, 1].
        num_parts: Equal parts of the window, in [1, S].
        threshold_dbfs: Level in decibels of full scale: 20 log10 of the root mean square.

    Returns:
        (B, num_parts) bool; digital silence is below every threshold.
    """
    power = F.adaptive_avg_pool1d(waveform.float().square()[:, None], num_parts)[:, 0]
    return power > 10 ** (threshold_dbfs / 10)


def add_at_ratio(waveform: Tensor, other: Tensor, ratio_db: Tensor | float) -> Tensor:
    """Add another waveform with a power ``ratio_db`` decibels below that of each clip.

    The ratio is exact in each window; silence stays silent, and silence adds nothing. Samples may leave [-1, 1].

    Args:
        waveform: (B, S) float.
        other: (B, S) float.
        ratio_db: Signal-to-noise ratio, one for all or (B, 1).
    """
    power, other_power = (x.square().mean(dim=1, keepdim=True) for x in (waveform, other))
    other_power = other_power.clamp(min=torch.finfo(other.dtype).tiny)
    return waveform + other * (power / other_power).sqrt() * 10 ** (-ratio_db / 20)
