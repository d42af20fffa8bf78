"""Metrics with negative audio: silence, noise, or the audio of something that is not visible.

One threshold on the raw similarity is used for all images. A good model exceeds it nowhere for negative audio, and
on the object for the true audio.

Source: Juanola, Haro and Fuentes, "A Critical Assessment of Visual Sound Source Localization Models Including
Negative Audio", ICASSP 2025, https://arxiv.org/abs/2410.01020, and its released evaluator (vssl_eval).

Dimensions: N samples, M negatives of a kind, h and w cells of a map, H and W pixels of the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.localization.arrays import Array, as_maps, as_pair
from avssl.evaluation.localization.chunks import chunks, samples_at_once
from avssl.evaluation.localization.consensus import consensus
from avssl.evaluation.localization.curves import THRESHOLDS, area, auc
from avssl.evaluation.localization.resizing import check_mode, interpolate
from avssl.evaluation.localization.rules import RAW

ALL = "all"
"""The mean over the kinds of negatives."""


@dataclass(frozen=True)
class NegativeAudioScores:
    """Results of :func:`negative_audio`; dictionaries have a value for each kind of negative, and ``"all"``.

    Example:
        >>> own = np.eye(2)[None]
        >>> scores = negative_audio(own, own, {"silence": np.ones((1, 2, 2))}, threshold=0.5)
        >>> scores.mean_ciou, scores.pia["silence"], scores.f_loc["silence"]  # silence selects all
        (1.0, 1.0, 0.0)
    """

    threshold: float
    """Similarity above which a pixel is selected."""
    mean_ciou: float
    """Mean cIoU for the true audio at the threshold (not a share of samples)."""
    auc: float
    """Area under the success curve of these cIoUs."""
    pia: dict[str, float]
    """Mean share of the image above the threshold; 0 is best."""
    auc_n: dict[str, float]
    """Area under the share of negatives with at most 0.05 i of the image above the threshold; 1 is best."""
    f_loc: dict[str, float]
    """Harmonic mean of ``mean_ciou`` and 1 - ``pia``."""
    f_auc: dict[str, float]
    """Harmonic mean of ``auc`` and ``auc_n``."""


def negative_audio(
    heatmap: Array,
    truth: Array,
    negatives: Mapping[str, Array],
    threshold: float | None = None,
    mode: str = "bilinear",
) -> NegativeAudioScores:
    """Compute pIA, AUC_N, F_LOC and F_AUC.

    Args:
        heatmap: (N, h, w) raw similarity of images with the true audio; nothing is normalized.
        truth: (N, H, W) in [0, 1].
        negatives: (M, h, w) raw similarity of images with negative audio, by kind ("silence", "noise", "off_screen").
        threshold: Pixels strictly above it are selected. Default: :func:`maxq3_threshold` of ``negatives``.
            For numbers that others should reproduce, choose it on other samples, as the release does with
            one constant for each model.
        mode: Resize to the size of the truth; see :func:`resize_heatmaps`.

    Returns:
        The scores. ``"all"`` uses the means of ``pia`` and of ``auc_n`` over the kinds, as in the release.
        The harmonic mean of two zeros is 0.

    Raises:
        ValueError: If there are no negatives, a kind is called "all", the mode is unknown, or maps or truth are
            invalid.

    Example:
        >>> own, silent = np.eye(2)[None], np.zeros((1, 2, 2))
        >>> found = negative_audio(own, own, {"silence": silent}, threshold=0.5)
        >>> found.pia["silence"], found.f_loc["silence"]
        (0.0, 1.0)
    """
    check_mode(mode)
    if not negatives or ALL in negatives:
        raise InputError(f'negatives must name at least one kind, and none "{ALL}", got {list(negatives)}.')
    maps, target = as_pair("heatmap", heatmap, truth)
    level = maxq3_threshold(*negatives.values()) if threshold is None else float(threshold)
    overlap = torch.cat([consensus(c.values(mode, RAW) > level, c.truth) for c in chunks(maps, target)])
    hw = (int(target.shape[1]), int(target.shape[2]))
    shares = {
        kind: _shares_above(as_maps(f"negatives[{kind!r}]", values), level, hw, mode)
        for kind, values in negatives.items()
    }
    pia = _with_mean({kind: float(share.mean()) for kind, share in shares.items()})
    auc_n = _with_mean({kind: _area_within(share) for kind, share in shares.items()})
    mean_ciou, success_area = overlap.mean().item(), auc(overlap)
    return NegativeAudioScores(
        level,
        mean_ciou,
        success_area,
        pia,
        auc_n,
        {kind: _harmonic(mean_ciou, 1 - value) for kind, value in pia.items()},
        {kind: _harmonic(success_area, value) for kind, value in auc_n.items()},
    )


def maxq3_threshold(*negatives: Array) -> float:
    """Return the third quartile of the highest similarity of each map for negative audio, before any resize.

    The published constants were computed in this way ("maxq3"); the quartile is interpolated.

    Args:
        negatives: (M, h, w) raw similarity of each kind; all maps have the same weight.

    Raises:
        ValueError: If there are none, or they hold NaN.

    Example:
        >>> silence = np.array([[[0.25, 0.0]], [[0.5, 0.25]], [[0.75, 0.0]]])
        >>> maxq3_threshold(silence)  # halfway between 0.5 and 0.75
        0.625
    """
    if not negatives:
        raise InputError("negatives must be at least one array of maps.")
    highest = [as_maps("negatives", maps).amax(dim=(1, 2)).double().cpu().numpy() for maps in negatives]
    return float(np.quantile(np.concatenate(highest), 0.75))


def _shares_above(maps: Tensor, level: float, hw: tuple[int, int], mode: str) -> np.ndarray:
    """Return the (M,) float64 share of each resized map above the level."""
    parts = [
        (interpolate(some, hw, mode) > level).double().mean(dim=(1, 2)) for some in maps.split(samples_at_once(hw))
    ]
    return torch.cat(parts).cpu().numpy()


def _area_within(shares: np.ndarray) -> float:
    return area([float((shares <= threshold).mean()) for threshold in THRESHOLDS])


def _with_mean(values: dict[str, float]) -> dict[str, float]:
    return values | {ALL: sum(values.values()) / len(values)}


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0
