"""The binarization rules of the literature by name: which pixels of a heat map are selected.

Notation: p, the values of a map at the size of the truth, min-max normalized to [0, 1] unless the rule says
otherwise; P pixels, 50 176 at 224 x 224; n pixels whose truth is not zero.

========== ==================================================== ================== ============================
rule       selects                                              resize             used by
========== ==================================================== ================== ============================
lvs        ``p > sorted(p)[P // 2]``                            bilinear           LVS, SSL-TIE
ezvsl      ``p >= sorted(p)[P // 2]``                           bilinear_corners   EZ-VSL, FNAC (validation: bicubic)
slavc      ``s >= 0.5``, s from [-1/tau, 1/tau] to [0, 1]       bicubic_corners    SLAVC
           relative: ``p >= sorted(p)[P // 2]``                                    its ``--relative_prediction``
sslalign   ``p > sorted(p)[P // 2]``                            bilinear           SSLalignment on VGG-SS; on other
                                                                                   sets with bilinear_corners
adaptive   ``p > sorted(p)[P - n]``                             bilinear           cIoU_adap: uses the object's size
fixed0.5   ``p >= 0.5``                                         bilinear (any)     Senocak et al., 2018
jsa        ``p >= 0.6``                                         bicubic            JSA
acl        ``p >= t``, t the best of 0.05, 0.1 ... 0.95         bicubic            ACL-SSL: chosen on the test set
========== ==================================================== ================== ============================

The median rules select half of the frame, so a truth below a quarter of it cannot reach a cIoU of 0.5. Strict and
inclusive rules differ by one pixel if all values differ, and by the whole frame if the map is constant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.localization.resizing import check_mode, interpolate, min_max

Select = Callable[[Tensor, Tensor], Tensor]
"""(N, P) values of maps, (N, P) truth -> (N, P) bool."""

MIN_MAX, RAW, UNIT = "min_max", "raw", "unit"
"""Scales of a map: to [0, 1] by its own extremes; unchanged; from [-1/tau, 1/tau] to [0, 1]."""


@dataclass(frozen=True)
class Rule:
    """Selection of pixels of a map."""

    selects: tuple[Select, ...]
    """Selections; if there are several, the best one on the whole set is kept."""
    mode: str
    """Resize mode."""
    scale: str = MIN_MAX
    """Scale of the values that are compared."""


def _above_median(p: Tensor, truth: Tensor) -> Tensor:
    return p > _median(p)


def _from_median(p: Tensor, truth: Tensor) -> Tensor:
    return p >= _median(p)


def _median(p: Tensor) -> Tensor:
    """Return (N, 1) ``sorted(p)[P // 2]``, the upper of the two middle values."""
    return p.kthvalue(p.shape[1] // 2 + 1, dim=1, keepdim=True).values


def _truth_area(p: Tensor, truth: Tensor) -> Tensor:
    """Select ``p > sorted(p)[P - n]``: n - 1 pixels if all values differ; none if n is 0."""
    n = (truth != 0).sum(dim=1, keepdim=True)
    # NumPy sorts float32 four times as fast as torch on a CPU, because torch also sorts the indices.
    ascending = p.sort(dim=1).values if p.is_cuda else torch.from_numpy(np.sort(p.numpy(), axis=1))
    return (p > ascending.gather(1, (p.shape[1] - n).clamp(max=p.shape[1] - 1))) & (n > 0)


def _at_least(threshold: float, p: Tensor, truth: Tensor) -> Tensor:
    return p >= threshold


ACL_THRESHOLDS = tuple(i / 20 for i in range(1, 20))
"""Thresholds of the rule ``acl``."""

RULES: dict[str, Rule] = {
    "lvs": Rule((_above_median,), "bilinear"),
    "ezvsl": Rule((_from_median,), "bilinear_corners"),
    "slavc": Rule((partial(_at_least, 0.5),), "bicubic_corners", UNIT),
    "sslalign": Rule((_above_median,), "bilinear"),
    "adaptive": Rule((_truth_area,), "bilinear"),
    "fixed0.5": Rule((partial(_at_least, 0.5),), "bilinear"),
    "jsa": Rule((partial(_at_least, 0.6),), "bicubic"),
    "acl": Rule(tuple(partial(_at_least, threshold) for threshold in ACL_THRESHOLDS), "bicubic"),
}
"""Rules by name; see the table above. Numbers of different rules are not comparable."""

_SLAVC_RELATIVE = Rule((_from_median,), "bicubic_corners")


def find_rule(name: str, *, mode: str | None = None, relative: bool = False, raw: bool = False) -> Rule:
    """Return a rule with changes.

    Args:
        name: Name in :data:`RULES`.
        mode: Resize mode in place of the rule's own.
        relative: The median form of ``slavc``.
        raw: Compare the values without min-max normalization.

    Raises:
        ValueError: On an unknown name or mode, or ``relative`` or ``raw`` for a rule without this form.
    """
    if name not in RULES:
        raise InputError(f"unknown rule {name!r}; the rules are {', '.join(RULES)}.")
    if relative and name != "slavc":
        raise InputError(f'relative=True is a form of the rule "slavc", got rule {name!r}.')
    rule = _SLAVC_RELATIVE if relative else RULES[name]
    if raw and rule.scale == UNIT:
        raise InputError('rule "slavc" scales by tau: pass tau in place of raw=True.')
    if mode is not None:
        check_mode(mode)
        rule = replace(rule, mode=mode)
    return replace(rule, scale=RAW) if raw else rule


def scaled_maps(maps: Tensor, hw: tuple[int, int], mode: str, scale: str, tau: float) -> Tensor:
    """Resize and scale (N, h, w) maps to the (N, H, W) float32 values that a rule compares.

    Raises:
        ValueError: If the scale is :data:`UNIT` and a value lies outside [-1/tau, 1/tau].
    """
    resized = interpolate(maps, hw, mode)
    if scale == MIN_MAX:
        return min_max(resized)
    return unit_scale(resized, maps, tau) if scale == UNIT else resized


def unit_scale(resized: Tensor, maps: Tensor, tau: float) -> Tensor:
    """Map resized scores from [-1/tau, 1/tau] to [0, 1]; ``maps`` are before the resize, as bicubic may overshoot."""
    if not tau > 0:
        raise InputError(f"tau ({tau}) must be greater than 0.")
    highest = maps.abs().max().item()
    if highest > 1.0001 / tau:
        raise InputError(
            f"heatmap must be cosines divided by tau ({tau}), in [{-1 / tau:g}, {1 / tau:g}], got {highest:g}."
        )
    return (resized * tau + 1) / 2
