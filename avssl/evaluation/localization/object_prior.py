"""Object-guided localization: mix an audio-visual map with one from the image alone.

The gain does not come from the audio, so report a mixed map beside both of its parts.

Source: Mo and Morgado, "Localizing Visual Sounds the Easy Way" (EZ-VSL), ECCV 2022, https://arxiv.org/abs/2203.09324.
"""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.localization.arrays import alike, as_maps
from avssl.evaluation.localization.resizing import min_max

EZVSL_ALPHA = 0.4
"""EZ-VSL's weight of the audio-visual map."""

SLAVC_ALPHA = 0.9
"""SLAVC's weight of the audio-visual map."""

A = TypeVar("A", np.ndarray, Tensor)


def fuse_object_prior(av_map: A, object_map: np.ndarray | Tensor, alpha: float) -> A:
    """Compute ``alpha * AV + (1 - alpha) * OBJ`` of two maps that are min-max normalized separately.

    EZ-VSL first resizes both to 224 x 224 (``bilinear_corners``). SLAVC's release scales by fixed ranges instead
    of the extremes of the maps: [-1/tau, 1/tau], and [0, 2.5] for an ImageNet ResNet-18.

    Args:
        av_map: (h, w), or (N, h, w).
        object_map: Map of the same shape.
        alpha: Weight in [0, 1]; :data:`EZVSL_ALPHA` or :data:`SLAVC_ALPHA`.

    Returns:
        float32 of the same shape, in [0, 1] unless a map is constant, which is left unchanged; an array for
        arrays and a tensor for tensors.

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
    audio_visual = as_maps("av_map", av_map)
    prior = as_maps("object_map", object_map).to(audio_visual.device)
    fused = alpha * min_max(audio_visual) + (1 - alpha) * min_max(prior)
    return cast(A, alike(fused if np.ndim(av_map) == 3 else fused[0], av_map))
