"""Masks from the boxes of benchmarks, as their released evaluators draw them.

A box is (left, top, right, bottom); its pixels are ``[top:bottom, left:right]`` after truncation towards zero, so a
box without area, or with swapped sides, has none. Boxes of a manifest's truth file (shares of the image) have
``picture_size=1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from avssl.core.errors import InputError
from avssl.evaluation.localization.resizing import SIZE

Boxes = Iterable[Sequence[float]]


def flickr_truth(boxes: Boxes, picture_size: float = 256, size: int = SIZE) -> np.ndarray:
    """Draw Flickr-SoundNet's consensus: half of the number of boxes over a pixel, at most 1.

    Each side is ``int(size * v / picture_size)``; the box of each annotator is one vote.

    Args:
        boxes: Boxes of all annotators of one image.
        picture_size: Width and height of the coordinate system; 256 in the annotation files.
        size: Height and width of the result.

    Returns:
        (size, size) float32 of 0, 0.5 and 1.

    Raises:
        ValueError: If a box is not four finite numbers.

    Example:
        >>> flickr_truth([(0, 0, 128, 256), (0, 0, 64, 256)], size=4)[0]
        array([1. , 0.5, 0. , 0. ], dtype=float32)
    """
    votes = sum((_filled(box, picture_size, size) for box in boxes), np.zeros((size, size)))
    return np.minimum(votes / 2, 1).astype(np.float32)


def vggss_truth(boxes: Boxes, size: int = SIZE) -> np.ndarray:
    """Draw VGG-SS: the union of boxes whose sides are shares of the image, clipped to [0, 1].

    LVS clips only below 0, which gives the same pixels.

    Args:
        boxes: Normalized boxes of one image.
        size: Height and width of the result.

    Returns:
        (size, size) bool.

    Raises:
        ValueError: If a box is not four finite numbers.

    Example:
        >>> vggss_truth([(0, 0, 0.25, 1), (0.5, 0, 1.2, 1)], size=4)[0]
        array([ True, False,  True,  True])
    """
    return _union(boxes, 1.0, size)


def is3_truth(boxes: Boxes, picture_size: float = 224, size: int = SIZE) -> np.ndarray:
    """Draw IS3, and the VPO and AVSBench boxes of the same release: whole pixels of a 224-pixel image.

    Args:
        boxes: Boxes of one sounding object; the release has one.
        picture_size: Width and height of the coordinate system. With 1, coordinates within a millionth
            below a whole pixel are that pixel (61/224 * 224 is 60.99...).
        size: Height and width of the result.

    Returns:
        (size, size) bool.

    Raises:
        ValueError: If a box is not four finite numbers.

    Example:
        >>> is3_truth([(0, 0, 112, 224)], size=4)[0]
        array([ True,  True, False, False])
    """
    return _union(boxes, picture_size, size, nearly=1e-6)


def _union(boxes: Boxes, picture_size: float, size: int, nearly: float = 0.0) -> np.ndarray:
    return sum((_filled(box, picture_size, size, nearly) for box in boxes), np.zeros((size, size))) > 0


def _filled(box: Sequence[float], picture_size: float, size: int, nearly: float = 0.0) -> np.ndarray:
    """Return (size, size) with ones inside the box and zeros outside."""
    corners = np.asarray(box, dtype=np.float64)
    if corners.shape != (4,) or not np.isfinite(corners).all():
        raise InputError(f"a box must be four finite numbers (left, top, right, bottom), got {box!r}.")
    # Clipped to the image, because a negative index would count from the other side.
    left, top, right, bottom = (int(min(max(size * v / picture_size, 0), size) + nearly) for v in corners)
    pixels = np.zeros((size, size))
    pixels[top:bottom, left:right] = 1
    return pixels
