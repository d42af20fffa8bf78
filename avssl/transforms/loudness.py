"""Detect the audible parts of a waveform."""

from __future__ import annotations

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
