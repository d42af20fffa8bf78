"""Scores of sound-source localization, each rule by its name.

A heat map is resized to the truth's size (bilinear, half-pixel centres) and min-max normalised to
[0, 1]; a constant map is left untouched. It is then binarised by one of :data:`RULES`, compared with
the truth as consensus IoU, and summarised as the share of samples with cIoU >= 0.5 (what tables call
"cIoU") and the area under the success curve. Numbers under different rules must not be compared: the
rule belongs to every number.

Sources: cIoU and AUC, Senocak et al., CVPR 2018; "lvs", Chen et al., CVPR 2021; "ezvsl", Mo and
Morgado, ECCV 2022; "adaptive", IIoU and IAUC, Senocak et al., TPAMI 2025; "jsa", CVPR 2025. All
written from their definitions.

Dimensions: N samples, h and w cells of a map, H and W pixels of the truth, P = H * W.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SUCCESS = 0.5
"""cIoU from which a sample counts as localized."""

THRESHOLDS = tuple(0.05 * i for i in range(21))
"""Of the success curve. 0.05 * 3 is above 0.15 in double, and the released evaluators compare with it."""

_CHUNK = 1 << 20  # pixels at a time: 4 MB of float32, so that the passes over them stay in the cache


def resize_maps(maps: Tensor, hw: tuple[int, int]) -> Tensor:
    """(N, h, w) to (N, H, W) float32: bilinear with half-pixel centres, edges continued."""
    if tuple(maps.shape[-2:]) == tuple(hw):
        return maps.float()
    return F.interpolate(maps[:, None].float(), size=tuple(hw), mode="bilinear", align_corners=False)[:, 0]


def normalize_maps(maps: Tensor, hw: tuple[int, int]) -> Tensor:
    """Resizes to ``hw`` and min-max normalises each map; a constant map stays as it is.

    Args:
        maps: (N, h, w) of any real values.
        hw: Height and width of the truth.

    Returns:
        (N, H, W) float32, in [0, 1] unless constant.
    """
    flat = maps.flatten(1).float()
    # Asked before resizing: interpolation may leave rounding errors in a constant map, which the
    # normalisation would then blow up to a full-range picture of nothing.
    constant = (flat.amax(dim=1) == flat.amin(dim=1))[:, None, None]
    resized = resize_maps(maps, hw)
    low, high = resized.amin(dim=(1, 2), keepdim=True), resized.amax(dim=(1, 2), keepdim=True)
    scaled = (resized - low) / torch.where(constant | (high == low), 1.0, high - low)
    return torch.where(constant, flat[:, :1, None], scaled)


def _above_median(p: Tensor, truth: Tensor) -> Tensor:
    return p > _median(p)


def _from_median(p: Tensor, truth: Tensor) -> Tensor:
    return p >= _median(p)


def _median(p: Tensor) -> Tensor:
    """(N, 1): ``sorted(p)[P // 2]``, the upper of the two middle values."""
    return p.kthvalue(p.shape[1] // 2 + 1, dim=1, keepdim=True).values


def _truth_area(p: Tensor, truth: Tensor) -> Tensor:
    """``p > sorted(p)[P - n]`` with n truth pixels: n - 1 pixels where all values differ; none if n is 0."""
    n = (truth != 0).sum(dim=1, keepdim=True)
    # NumPy's sort of float32 is four times as fast as torch's on a CPU, which also sorts the indices.
    ascending = p.sort(dim=1).values if p.is_cuda else torch.from_numpy(np.sort(p.numpy(), axis=1))
    return (p > ascending.gather(1, (p.shape[1] - n).clamp(max=p.shape[1] - 1))) & (n > 0)


Rule = Callable[[Tensor, Tensor], Tensor]

RULES: dict[str, Rule] = {
    "lvs": _above_median,
    "ezvsl": _from_median,
    "adaptive": _truth_area,
    "fixed0.5": lambda p, truth: p >= 0.5,
    "jsa": lambda p, truth: p >= 0.6,
}
"""Binarisation by name: (normalised map (N, P), truth (N, P)) -> (N, P) bool.

``lvs`` and ``ezvsl`` select half of the frame (strictly above, or from, the median): a truth below a
quarter of the frame cannot reach 0.5. ``adaptive`` selects as many pixels as the truth has, and so
tells the metric the object's size. ``fixed0.5`` and ``jsa`` (0.6) are plain thresholds."""


def ciou(maps: Tensor, truth: Tensor, rule: str) -> Tensor:
    """Consensus IoU of each sample: sum(B g) / (sum(g) + sum(B [g = 0])).

    Args:
        maps: (N, h, w) heat maps at any resolution and scale.
        truth: (N, H, W) in [0, 1]: bool masks, or votes (one of two annotators is 0.5: selecting
            such a pixel gains 0.5 and is never a false positive).
        rule: A name of :data:`RULES`.

    Returns:
        (N,) float64 in [0, 1]. An empty truth scores 0, selected pixels or none.

    Raises:
        ValueError: On an unknown rule, maps and truths of different number, NaN, or truth outside [0, 1].
    """
    _check(maps, truth)
    _check_rules([rule])
    return torch.cat([_ciou(p.flatten(1), g.flatten(1), rule) for p, g in _normalized_chunks(maps, truth)])


def _ciou(p: Tensor, truth: Tensor, rule: str) -> Tensor:
    """(N,) float64 from normalised (N, P) maps."""
    selected = RULES[rule](p, truth)
    hit = (selected * truth).sum(dim=1, dtype=torch.float64)
    union = truth.sum(dim=1, dtype=torch.float64) + (selected & (truth == 0)).sum(dim=1)
    return hit / torch.where(union > 0, union, 1.0)


def pointing(maps: Tensor, truth: Tensor) -> Tensor:
    """Whether the peak of each map lies on the truth; the expectation over the peaks where several tie.

    A constant map therefore scores the truth's share of the frame, as pointing at random does.

    Args:
        maps: (N, h, w) heat maps.
        truth: (N, H, W); every pixel above 0 counts.

    Returns:
        (N,) float64 in [0, 1].
    """
    _check(maps, truth)
    return torch.cat([_pointing(p.flatten(1), g.flatten(1)) for p, g in _normalized_chunks(maps, truth)])


def _pointing(p: Tensor, truth: Tensor) -> Tensor:
    # The map is in [0, 1] or constant: within 1e-6 of the top is a tie but for rounding. Where a
    # peak cell touches the frame, the pixels between its centre and the edge tie.
    peak = p >= p.amax(dim=1, keepdim=True) - 1e-6
    return (peak & (truth > 0)).sum(dim=1).double() / peak.sum(dim=1)


def success_rate(values: Tensor, threshold: float = SUCCESS) -> float:
    """Share of cIoU ``values`` (N,) that reach ``threshold``."""
    return (values >= threshold).double().mean().item()


def success_auc(values: Tensor) -> float:
    """Area under the success rate over :data:`THRESHOLDS`, by the trapezoid rule; in [0, 1]."""
    curve = torch.tensor([success_rate(values, threshold) for threshold in THRESHOLDS], dtype=torch.float64)
    return torch.trapezoid(curve, torch.tensor(THRESHOLDS, dtype=torch.float64)).item()


def group_minimum(values: Tensor, groups: Sequence[int | str | None] | np.ndarray | Tensor) -> Tensor:
    """The worst value of each group: a group passes a threshold only if every member does.

    Args:
        values: (N,) cIoUs of one picture with one sound each.
        groups: N ids, equal for the sounds of one picture; rows whose id is negative, "" or None
            belong to no group and are left out. A group may have one member (some benchmarks'
            do), and then says nothing about listening.

    Returns:
        (G,) float64, in the order of the groups' first rows.
    """
    ids = groups.tolist() if isinstance(groups, Tensor | np.ndarray) else list(groups)
    if len(ids) != len(values):
        raise ValueError(f"groups hold {len(ids)} ids but there are {len(values)} samples.")
    worst: dict[int | str, float] = {}
    for group, value in zip(ids, values.tolist(), strict=True):
        if group is None or group == "" or (not isinstance(group, str) and group < 0):
            continue
        worst[group] = min(value, worst.get(group, value))
    return torch.tensor(list(worst.values()), dtype=torch.float64)


def localization_samples(
    maps: Tensor,
    truth: Tensor,
    rules: Sequence[str] = ("adaptive", "ezvsl"),
    other_objects: Tensor | None = None,
) -> dict[str, Tensor]:
    """The score of every sample, for intervals, subgroups and paired comparisons.

    Args:
        maps: (N, h, w) heat maps.
        truth: (N, H, W) sounding object in [0, 1].
        rules: Names of :data:`RULES`.
        other_objects: (N, H, W) masks of what is visible and silent; adds ``pointing_other``.

    Returns:
        (N,) float64 each: ``pointing``, ``truth_area`` (share of the frame), ``ciou_<rule>`` and,
        if asked for, ``pointing_other``.
    """
    _check(maps, truth)
    _check_rules(rules)
    if other_objects is not None and other_objects.shape != truth.shape:
        raise ValueError(
            f"other_objects {tuple(other_objects.shape)} must have the shape of truth {tuple(truth.shape)}."
        )
    parts: dict[str, list[Tensor]] = {}
    first = 0
    for p, g in _normalized_chunks(maps, truth):
        p, g = p.flatten(1), g.flatten(1)
        scores = {"pointing": _pointing(p, g), "truth_area": (g > 0).double().mean(dim=1)}
        scores |= {f"ciou_{rule}": _ciou(p, g, rule) for rule in rules}
        if other_objects is not None:
            silent = other_objects[first : first + len(p)].to(p.device).flatten(1)
            scores["pointing_other"] = _pointing(p, silent)
        for name, values in scores.items():
            parts.setdefault(name, []).append(values)
        first += len(p)
    return {name: torch.cat(values) for name, values in parts.items()}


def localization_scores(
    maps: Tensor,
    truth: Tensor,
    groups: Sequence[int | str | None] | np.ndarray | Tensor | None = None,
    rules: Sequence[str] = ("adaptive", "ezvsl"),
    other_objects: Tensor | None = None,
) -> dict[str, float]:
    """Everything a table row needs.

    Args:
        maps: (N, h, w) heat maps.
        truth: (N, H, W) sounding object in [0, 1].
        groups: N ids, equal for the sounds of one picture (see :func:`group_minimum`).
        rules: Names of :data:`RULES`.
        other_objects: (N, H, W) masks of what is visible and silent.

    Returns:
        See :func:`summarize`.
    """
    return summarize(localization_samples(maps, truth, rules, other_objects), groups)


def summarize(
    samples: dict[str, Tensor], groups: Sequence[int | str | None] | np.ndarray | Tensor | None = None
) -> dict[str, float]:
    """:func:`localization_samples` as one number each.

    Returns:
        ``n``, ``pointing``, ``truth_area``, ``pointing_other`` if measured; for each rule
        ``ciou_success_<rule>`` (the field's "cIoU"), ``ciou_mean_<rule>`` and ``auc_<rule>``; with
        ``groups`` also ``num_groups``, ``iiou_<rule>`` and ``iauc_<rule>``: the success rate and the area
        of the groups' worst members. All in [0, 1] but the counts.

    Raises:
        ValueError: If ``groups`` names no group at all or has another length.
    """
    result = {"n": float(len(samples["pointing"]))}
    for name, values in samples.items():
        if not name.startswith("ciou_"):
            result[name] = values.mean().item()
            continue
        rule = name.removeprefix("ciou_")
        result[f"ciou_success_{rule}"] = success_rate(values)
        result[f"ciou_mean_{rule}"] = values.mean().item()
        result[f"auc_{rule}"] = success_auc(values)
        if groups is not None:
            worst = group_minimum(values, groups)
            if len(worst) == 0:
                raise ValueError("groups name no group: every id is negative, empty or None. Pass groups=None instead.")
            result["num_groups"] = float(len(worst))
            result[f"iiou_{rule}"] = success_rate(worst)
            result[f"iauc_{rule}"] = success_auc(worst)
    return result


def _normalized_chunks(maps: Tensor, truth: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised maps (n, H, W) and their truths on one device, a bounded number of pixels at a time."""
    hw = (truth.shape[1], truth.shape[2])
    step = max(1, _CHUNK // (hw[0] * hw[1]))
    for first in range(0, len(maps), step):
        yield normalize_maps(maps[first : first + step].detach(), hw), truth[first : first + step].to(maps.device)


def _check(maps: Tensor, truth: Tensor) -> None:
    if maps.ndim != 3 or truth.ndim != 3 or len(maps) != len(truth) or 0 in (maps.numel(), truth.numel()):
        raise ValueError(
            "maps must be (N, h, w) and truth (N, H, W) of the same N > 0, "
            f"got {tuple(maps.shape)} and {tuple(truth.shape)}."
        )
    if not torch.isfinite(maps).all():
        bad = int((~torch.isfinite(maps)).flatten(1).any(dim=1).nonzero()[0])
        raise ValueError(f"maps hold NaN or infinity, first in sample {bad}.")
    if truth.dtype != torch.bool and not bool(((truth >= 0) & (truth <= 1)).all()):
        raise ValueError(f"truth must be in [0, 1], got {truth.min().item()} to {truth.max().item()}.")


def _check_rules(rules: Sequence[str]) -> None:
    unknown = [rule for rule in rules if rule not in RULES]
    if unknown:
        raise ValueError(f"unknown rule {unknown[0]!r}; the rules are {', '.join(RULES)}.")
