"""Which instant of a clip is scored, and against what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avssl.synthetic import Truth


@dataclass(frozen=True)
class PointingWindow:
    """One scored instant of a clip."""

    row: int
    """Position in the manifest."""
    start_seconds: float
    """Where picture and sound windows start."""
    frame: float
    """The instant as a position among the window's frames."""
    frame_seconds: float
    """The instant in seconds after ``start_seconds``."""
    truth: Tensor
    """(H, W) bool: visible pixels of what sounds."""
    others: Tensor
    """(O, H, W) bool: every object of the scene; the sounding one first."""


def choose_window(
    truth: Truth, row: int, num_frames: int, fps: float, duration_seconds: float
) -> PointingWindow | None:
    """The window around the sound event nearest to the middle of the clip, or None if none can be seen."""
    length = num_frames / fps
    events = truth.sounding_events()
    for event in sorted(events.tolist(), key=lambda second: abs(second - duration_seconds / 2)):
        start = min(max(event - length / 2, 0.0), duration_seconds - length)
        middle = start + length / 2
        mask = truth.sounding_mask(middle)
        if start <= event < start + length and mask.any():
            masks = truth.masks[truth.frame_at(middle)]
            order = np.argsort(~truth.sounding, kind="stable")
            truths = torch.from_numpy(mask), torch.from_numpy(masks[order])
            return PointingWindow(row, start, num_frames / 2, length / 2, *truths)
    return None
