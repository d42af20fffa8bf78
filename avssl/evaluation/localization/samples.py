"""Scores of many samples, and their summary as a row of a table.

Dimensions: N samples, h and w cells of a map, H and W pixels of the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.evaluation.localization.arrays import Array, as_pair, as_truth
from avssl.evaluation.localization.chunks import chunks
from avssl.evaluation.localization.consensus import best_selection, overlaps
from avssl.evaluation.localization.curves import Groups, auc, interactive, success
from avssl.evaluation.localization.peaks import peak_hits
from avssl.evaluation.localization.rules import MIN_MAX, find_rule


def localization_samples(
    heatmaps: Array,
    truth: Array,
    rules: Sequence[str] = ("adaptive", "ezvsl"),
    other_objects: Array | None = None,
    *,
    mode: str | None = None,
    tau: float = 1.0,
) -> dict[str, Tensor]:
    """Compute the scores of every sample, for intervals, subgroups and paired comparisons.

    Args:
        heatmaps: (N, h, w).
        truth: (N, H, W) sounding object in [0, 1].
        rules: Names in :data:`RULES`.
        other_objects: (N, H, W) masks of visible silent objects; adds ``pointing_other``.
        mode: Resize mode in place of each rule's own.
        tau: For the rule ``slavc``; see :func:`ciou`.

    Returns:
        (N,) float64 each: ``pointing``, ``truth_area`` (share of the frame), ``ciou_<rule>`` and,
        with ``other_objects``, ``pointing_other``.

    Raises:
        ValueError: As :func:`ciou`, or if ``other_objects`` and ``truth`` differ in shape.

    Example:
        >>> heatmaps, truth = np.array([[[1.0, 0.2], [0.1, 0.0]]]), np.array([[[1, 0], [0, 0]]])
        >>> samples = localization_samples(heatmaps, truth, rules=["fixed0.5"])
        >>> {name: values.tolist() for name, values in samples.items()}
        {'pointing': [1.0], 'truth_area': [0.25], 'ciou_fixed0.5': [1.0]}
    """
    return kept_selections(sample_columns(heatmaps, truth, rules, other_objects, mode, tau))


def sample_columns(
    heatmaps: Array,
    truth: Array,
    rules: Sequence[str],
    silent_objects: Array | None = None,
    mode: str | None = None,
    tau: float = 1.0,
) -> dict[str, Tensor]:
    """Compute :func:`localization_samples` of a part of the set; join the parts before :func:`kept_selections`.

    Returns:
        The same scores, but ``ciou_<rule>`` is (N, K), a column for each selection of the rule: some rules have
        several, the best of which is kept for the whole set.
    """
    maps, target = as_pair("heatmaps", heatmaps, truth)
    found = {rule: find_rule(rule, mode=mode) for rule in rules}
    silent = None if silent_objects is None else as_truth("other_objects", silent_objects)
    if silent is not None and silent.shape != target.shape:
        raise InputError(f"other_objects {tuple(silent.shape)} must have the shape of truth {tuple(target.shape)}.")
    parts: dict[str, list[Tensor]] = {}
    for chunk in chunks(maps, target, tau):
        p = chunk.values(mode or "bilinear", MIN_MAX)
        scores = {"pointing": peak_hits(p, chunk.truth), "truth_area": (chunk.truth > 0).double().mean(dim=1)}
        scores |= {f"ciou_{rule}": overlaps(chunk, each) for rule, each in found.items()}
        if silent is not None:
            scores["pointing_other"] = peak_hits(p, silent[chunk.rows].to(p.device).flatten(1))
        for name, values in scores.items():
            parts.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in parts.items()}


def kept_selections(columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reduce :func:`sample_columns` of the whole set to the best selection of each rule."""
    return {name: best_selection(values) if values.ndim == 2 else values for name, values in columns.items()}


def summarize(samples: Mapping[str, Tensor], groups: Groups | None = None) -> dict[str, float]:
    """Average :func:`localization_samples` over the samples.

    Args:
        samples: (N,) scores by name.
        groups: N ids, equal for the sounds of one image (see :func:`interactive`).

    Returns:
        ``n``, ``pointing``, ``truth_area``, ``pointing_other`` if there; for each rule
        ``ciou_success_<rule>`` (the "cIoU" of published tables), ``ciou_mean_<rule>`` and ``auc_<rule>``; with
        ``groups`` also ``num_groups``, ``iiou_<rule>`` and ``iauc_<rule>``. All except the counts are in [0, 1].

    Raises:
        ValueError: If ``groups`` names no group or has another length.

    Example:
        >>> samples = {"pointing": torch.tensor([1.0, 0.0]), "ciou_ezvsl": torch.tensor([0.75, 0.0])}
        >>> scores = summarize(samples)
        >>> scores["n"], scores["pointing"], scores["ciou_success_ezvsl"], scores["ciou_mean_ezvsl"]
        (2.0, 0.5, 0.5, 0.375)
    """
    result = {"n": float(len(samples["pointing"]))}
    for name, values in samples.items():
        if not name.startswith("ciou_"):
            result[name] = values.mean().item()
            continue
        rule = name.removeprefix("ciou_")
        result[f"ciou_success_{rule}"] = success(values)
        result[f"ciou_mean_{rule}"] = values.mean().item()
        result[f"auc_{rule}"] = auc(values)
        if groups is not None:
            pairs = interactive(values, groups)
            result["num_groups"] = float(pairs.num_groups)
            result[f"iiou_{rule}"], result[f"iauc_{rule}"] = pairs.iiou, pairs.iauc
    return result
