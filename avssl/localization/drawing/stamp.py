"""A line of warning above the frames, in black on amber, that covers nothing of the map."""

from __future__ import annotations

import torch
from torch import Tensor

from avssl.media import Planes
from avssl.media.planes import to_planes
from avssl.reports.figures import text_image

_AMBER = (255, 191, 0)
_LETTER = 1.7  # height of the line in widths of a letter


def stamp(text: str, width: int) -> Planes:
    """Return the line, as wide as the output and high enough for its largest legible letters.

    Args:
        text: One line.
        width: Width of the output in pixels, even.
    """
    height = 2 * round(min(max(_LETTER * width / len(text) * 1.6, 20), width / 10 + 12) / 2)
    return to_planes(_on_amber(text_image(text, width, height)))


def _on_amber(image: Tensor) -> Tensor:
    """Turn (3, H, W) black on white into black on amber."""
    return (image.float() * torch.tensor(_AMBER)[:, None, None] / 255).round().byte()
