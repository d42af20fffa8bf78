"""Scores of every row at every instant, with their means, intervals and paired differences.

Dimensions: N instants at which something visible sounds, G groups, M numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from avssl.downstream.localization.instants import Instant
from avssl.evaluation import mean_intervals
from avssl.evaluation.localization import THRESHOLDS, group_minimum, success, summarize
from avssl.evaluation.localization.curves import SUCCESS
from avssl.evaluation.localization.samples import kept_selections, sample_columns

_PART = 64  # instants at a time: 64 truths of 224 x 224 are 13 MB

Samples = dict[str, Tensor]
"""Name of a score → (N,) float64: ``pointing``, ``truth_area``, ``ciou_<rule>``."""

Numbers = dict[str, float]


def score_rows(
    instants: Sequence[Instant],
    rows: Mapping[str, Callable[[slice], Tensor]],
    rules: Sequence[str],
    on_part: Callable[[int], object] = lambda count: None,
) -> dict[str, Samples]:
    """Score all rows; the truth is made once for each part of the instants.

    Args:
        instants: N instants.
        rows: Name -> function that returns the (n, h, w) maps of a part of the instants.
        rules: Names of binarization rules.
        on_part: Called with the number of instants of each part.
    """
    parts: dict[str, list[Samples]] = {name: [] for name in rows}
    for first in range(0, len(instants), _PART):
        part = slice(first, min(first + _PART, len(instants)))
        truth = torch.stack([instant.truth() for instant in instants[part]])
        for name, maps in rows.items():
            parts[name].append(sample_columns(maps(part), truth, rules))
        on_part(len(truth))
    return {
        name: kept_selections({key: torch.cat([each[key] for each in found]) for key in found[0]})
        for name, found in parts.items()
    }


def headlines(samples: Samples, groups: Sequence[str | None] | None) -> tuple[dict[str, np.ndarray], ...]:
    """Return the numbers of each instant and of each group that means and intervals are computed from.

    Returns:
        ``pointing``, ``ciou_success_<rule>`` and ``auc_<rule>``, (N,) each; ``iiou_<rule>`` and
        ``iauc_<rule>``, (G,) each. Their means are the numbers of :func:`avssl.evaluation.summarize`.
    """
    single, grouped = {"pointing": samples["pointing"].numpy()}, {}
    for name, values in samples.items():
        if not name.startswith("ciou_"):
            continue
        rule, ciou = name.removeprefix("ciou_"), values.numpy()
        single[f"ciou_success_{rule}"], single[f"auc_{rule}"] = _reached(ciou)
        if groups is not None:
            grouped[f"iiou_{rule}"], grouped[f"iauc_{rule}"] = _reached(group_minimum(ciou, groups))
    return single, grouped


def _reached(ciou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return success (0 or 1) and the area under the own curve of each sample, float64."""
    curve = (ciou[:, None] >= np.array(THRESHOLDS)).astype(np.float64)
    return (ciou >= SUCCESS).astype(np.float64), np.asarray(np.trapezoid(curve, THRESHOLDS, axis=1))


def table_rows(
    samples: Mapping[str, Samples], groups: Sequence[str | None] | None, recordings: np.ndarray, seed: int
) -> tuple[dict[str, Numbers], dict[str, dict[str, tuple[float, float]]]]:
    """Return the numbers of every row, and the 95 % intervals of its headlines over the (N,) ``recordings``."""
    rows = {name: summarize(values, groups) for name, values in samples.items()}
    parts = {name: headlines(values, groups) for name, values in samples.items()}
    of_groups = _of_groups(groups, recordings)
    intervals = {
        name: _intervals(single, recordings, seed) | _intervals(grouped, of_groups, seed)
        for name, (single, grouped) in parts.items()
    }
    return rows, intervals


def paired_differences(
    samples: Mapping[str, Samples],
    ours: str,
    groups: Sequence[str | None] | None,
    recordings: np.ndarray,
    seed: int,
) -> dict[str, dict[str, dict[str, float | tuple[float, float]]]]:
    """Compute the difference between ``ours`` and every other row, on the same instants.

    Returns:
        Name of the other row -> headline -> ``difference`` and its 95 % ``interval`` by the paired bootstrap over
        the (N,) ``recordings``.
    """
    mine = headlines(samples[ours], groups)
    found = {}
    for name, values in samples.items():
        if name == ours:
            continue
        differences: dict[str, dict[str, float | tuple[float, float]]] = {}
        owners = recordings, _of_groups(groups, recordings)
        for own, other, owner in zip(mine, headlines(values, groups), owners, strict=True):
            by_sample = {key: own[key] - other[key] for key in own}
            differences |= {
                key: {"difference": float(by_sample[key].mean()), "interval": interval}
                for key, interval in _intervals(by_sample, owner, seed).items()
            }
        found[name] = differences
    return found


def success_curves(samples: Samples) -> dict[str, list[float]]:
    """Return, by rule, the share of instants whose cIoU reaches each of the thresholds."""
    return {
        name.removeprefix("ciou_"): [success(values, threshold) for threshold in THRESHOLDS]
        for name, values in samples.items()
        if name.startswith("ciou_")
    }


def _of_groups(groups: Sequence[str | None] | None, recordings: np.ndarray) -> np.ndarray:
    """Return the (G,) recording of the first instant of each group, in the order of :func:`group_minimum`."""
    first: dict[str, int] = {}
    for group, recording in zip(groups or [], recordings.tolist(), strict=False):
        if group:
            first.setdefault(group, recording)
    return np.array(list(first.values()), dtype=np.int64)


def _intervals(values: Mapping[str, np.ndarray], recordings: np.ndarray, seed: int) -> dict[str, tuple[float, float]]:
    if not values or not len(recordings):
        return {}
    found = mean_intervals(np.stack(list(values.values()), axis=1), recordings, seed)
    return {name: (float(low), float(high)) for name, (low, high) in zip(values, found, strict=True)}
