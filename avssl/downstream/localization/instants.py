"""Instants of clips with known truth, which are scored.

An instant without a visible sounding object (an off-screen sound, a silent clip, a mismatched pair) is a negative:
no map is right there, and a confident one is wrong.

Dimensions: O objects, H and W pixels of the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avssl.synthetic import Truth


@dataclass(frozen=True, eq=False)
class Instant:
    """One instant of a row. The truth is made when called: thousands of masks would fill the memory."""

    row: int
    """Position in the manifest."""
    number: int
    """Position among the row's instants."""
    seconds: float | None
    """Time after the start of the row; None for a still image, which belongs to the whole audio."""
    truth: Callable[[], Tensor]
    """() -> (H, W) float32 in [0, 1]: the sounding object, or the share of votes for it."""
    hw: tuple[int, int]
    """H and W of the truth."""
    is_positive: bool = True
    """True if anything visible sounds."""
    is_mask: bool = False
    """True if the truth is a pixel mask, not boxes."""
    objects: Callable[[], Tensor] | None = None
    """() -> (O, H, W) bool: every visible object, sounding or not, if known."""
    picture: Path | None = None
    """The annotated image, if it is a file."""


def shapes_instant(truth: Truth, row: int, window_seconds: float) -> Instant | None:
    """Choose the scored instant of a SoundingShapes clip.

    It is the middle of a window around the sound event nearest to the middle of the clip at which the source is
    visible, or the middle of a clip in which nothing visible sounds.

    Args:
        truth: Truth of the clip.
        row: Position in the manifest.
        window_seconds: Length of the model's window, which does not leave the clip.

    Returns:
        The instant, or None if something in the scene sounds, but is hidden at all of its events.
    """
    duration = len(truth.masks) / truth.video_fps
    if not truth.sounding.any():
        return _shapes_at(truth, row, duration / 2)
    events = sorted(truth.sounding_events().tolist(), key=lambda second: abs(second - duration / 2))
    for event in events:
        start = min(max(event - window_seconds / 2, 0.0), duration - window_seconds)
        middle = start + window_seconds / 2
        if start <= event < start + window_seconds and truth.sounding_mask(middle).any():
            return _shapes_at(truth, row, middle)
    return None


def _shapes_at(truth: Truth, row: int, seconds: float) -> Instant:
    """Build the instant at a time; objects are in the order of :func:`visible_objects`."""
    mask = torch.from_numpy(truth.sounding_mask(seconds))
    objects = torch.from_numpy(visible_objects(truth, seconds))
    height, width = mask.shape
    return Instant(
        row,
        0,
        seconds,
        truth=mask.float,
        hw=(height, width),
        is_positive=bool(truth.sounding.any()),
        is_mask=True,
        objects=objects.clone,
    )


def visible_objects(truth: Truth, seconds: float) -> np.ndarray:
    """Return (O, H, W) bool masks of the objects of a scene at a time, sounding ones first."""
    return truth.masks[truth.frame_at(seconds)][np.argsort(~truth.sounding, kind="stable")]
