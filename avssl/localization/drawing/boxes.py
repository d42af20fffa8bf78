"""Boxes around the peak of a map."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label
from torch import Tensor

from avssl.core.errors import InputError
from avssl.localization.drawing.blend import resize_image

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the upright frame."""

_FINER = 8  # boxes end at eighths of a cell, on the map as it is drawn


def hot_box(heat: Tensor, threshold: float, frame_hw: tuple[int, int]) -> Box | None:
    """Compute the box around the connected region that holds the map's peak and lies at or above a threshold.

    Args:
        heat: (h, w) map of the whole frame.
        threshold: A cosine.
        frame_hw: Height and width of the frame in pixels.

    Returns:
        The box, or None if the peak is below the threshold.
    """
    height, width = (_FINER * side for side in heat.shape)
    finer = resize_image(heat[None, None].float(), (height, width))[0, 0].numpy()
    if finer.max() < threshold:
        return None
    regions, _ = label(finer >= threshold)
    inside = regions == regions.flat[int(finer.argmax())]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    down, across = frame_hw[0] / height, frame_hw[1] / width
    return columns[0] * across, rows[0] * down, (columns[-1] + 1) * across, (rows[-1] + 1) * down


def box_threshold(scale: tuple[float, float], share: float) -> float:
    """Return the cosine at a share of a color scale, from 0 (lowest) to 1 (highest).

    Raises:
        InputError: If the share is outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise InputError(f"the threshold of boxes ({share}) is a share of the color scale, from 0 to 1.")
    return scale[0] + share * (scale[1] - scale[0])
