"""Object-guided localization: a map that has heard nothing, mixed into one that has.

What it adds says nothing about listening; report a mixed map beside both of its parts, never in place of one.

Source: Mo and Morgado, "Localizing Visual Sounds the Easy Way" (EZ-VSL), ECCV 2022,
https://arxiv.org/abs/2203.09324.
"""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.localization.arrays import alike, as_maps
from avssl.evaluation.localization.resizing import min_max

EZVSL_ALPHA = 0.4
"""EZ-VSL's weight of the audio-visual map: the object prior weighs more."""

SLAVC_ALPHA = 0.9
"""SLAVC's weight of the audio-visual map."""

A = TypeVar("A", np.ndarray, Tensor)


def fuse_object_prior(av_map: A, object_map: np.ndarray | Tensor, alpha: float) -> A:
    """``alpha * AV + (1 - alpha) * OBJ`` of two maps that are min-max normalized each by itself.

    EZ-VSL resizes both to 224 x 224 (``bilinear_corners``) before; the result is normalized once more by every
    rule that does so. SLAVC's release scales by fixed ranges in place of the maps' own extremes: [-1/tau,
    1/tau], and [0, 2.5] for an ImageNet ResNet-18.

    Args:
        av_map: (h, w), or (N, h, w).
        object_map: Of the same shape.
        alpha: In [0, 1]; :data:`EZVSL_ALPHA` or :data:`SLAVC_ALPHA`.

    Returns:
        Of the same shape, float32, in [0, 1] unless a map is constant, which is left untouched; an array for
        an array and a tensor for a tensor.

    Raises:
        ValueError: If the shapes differ, ``alpha`` lies outside [0, 1], or a map holds NaN.

    Example:
        >>> fuse_object_prior(np.array([[0.0, 4.0]]), np.array([[9.0, 8.0]]), EZVSL_ALPHA)
        array([[0.6, 0.4]], dtype=float32)
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha ({alpha}) must be in [0, 1].")
    if tuple(np.shape(av_map)) != tuple(np.shape(object_map)):
        raise InputError(
            f"av_map {tuple(np.shape(av_map))} and object_map {tuple(np.shape(object_map))} must have one shape: "
            "resize them."
        )
    heard = as_maps("av_map", av_map)
    seen = as_maps("object_map", object_map).to(heard.device)
    fused = alpha * min_max(heard) + (1 - alpha) * min_max(seen)
    return cast(A, alike(fused if np.ndim(av_map) == 3 else fused[0], av_map))
