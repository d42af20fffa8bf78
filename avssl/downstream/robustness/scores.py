"""Score predictions on disturbed clips, and any measure by group of clips and by corruption.

Dimensions: N scored clips.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from avssl.core.batch import Modality
from avssl.downstream.robustness.disturbances import CLEAN, DISTURBANCES
from avssl.evaluation import (
    disturbance_scores,
    group_gap,
    group_gaps,
    group_names,
    ratio_interval,
    subgroup_scores,
    untestable,
)
from avssl.transforms.corruptions import Corruption

ClassPredictions = dict[str, dict[str, np.ndarray]]
"""Modality -> disturbance -> (N,) int64 predicted classes."""


def score_disturbances(
    predictions: ClassPredictions, labels: np.ndarray, partners: np.ndarray, recordings: np.ndarray, seed: int
) -> list[dict[str, Any]]:
    """Return a row for each modality and disturbance: :class:`~avssl.evaluation.DisturbanceScores` as plain values.

    Args:
        predictions: Predicted classes of N clips.
        labels: (N,) int64 true classes.
        partners: (N,) positions of the clips' partners among them.
        recordings: (N,) recordings of the clips, which are resampled as wholes.
        seed: Random seed of the resamples.

    Returns:
        The rows; ``reached`` is False if the disturbance does not change the modality.
    """
    rows = []
    for modality, predicted in predictions.items():
        for name, disturbed in predicted.items():
            disturbance = DISTURBANCES.get(name)
            partner = labels[partners] if disturbance is not None and disturbance.uses_partner else None
            scores = disturbance_scores(predicted[CLEAN], disturbed, labels, recordings, partner, seed)
            reached = disturbance is None or disturbance.modality in modality
            rows.append({"disturbance": name, "modality": modality, "reached": reached, **vars(scores)})
    return rows


def score_groups(
    values: np.ndarray, scores: Mapping[str, np.ndarray], recordings: np.ndarray, seed: int
) -> dict[str, Any]:
    """Return the mean scores on clean clips by group, and a permutation test of the gap between them.

    Args:
        values: (N,) values of a column.
        scores: Name of a number -> (N,) scores of the clips.
        recordings: (N,) recordings of the clips, which are permuted and resampled as wholes.
        seed: Random seed of the resamples.

    Returns:
        ``groups``: ``n``, and by number ``mean`` and ``interval``; ``gap``: by number the ``best`` and the ``worst``
        group, the ``gap`` between them, and ``test``, :class:`~avssl.evaluation.GroupGaps` as plain values;
        ``no_test``: why there is no test, or "".
    """
    groups: dict[str, dict[str, Any]] = {}
    gaps = {}
    names = group_names(values)
    reason = untestable(names, recordings)
    for number, by_clip in scores.items():
        found = subgroup_scores(by_clip, values, recordings, seed)
        for name, group in found.items():
            groups.setdefault(name, {"n": group.n})[number] = {"mean": group.mean, "interval": group.interval}
        best, worst, gap = group_gap(found)
        test = None if reason else vars(group_gaps(by_clip, names, recordings, seed))
        gaps[number] = {"best": best, "worst": worst, "gap": gap, "test": test}
    return {"groups": groups, "gap": gaps, "no_test": reason}


def score_corruptions(
    scores: Mapping[Corruption | None, Mapping[str, np.ndarray]],
    streams: Mapping[str, Collection[Modality]],
    recordings: np.ndarray,
    seed: int,
) -> list[dict[str, Any]]:
    """Return a row for each number and corruption of a modality that it depends on, after a row of the clean clips.

    Args:
        scores: Corruption, None for clean -> name of a number -> (N,) scores >= 0 of the clips.
        streams: Name of a number -> modalities that it depends on.
        recordings: (N,) recordings of the clips, which are resampled as wholes.
        seed: Random seed of the resamples.

    Returns:
        ``number``, ``corruption``, ``severity``, ``strength``, ``mean`` with its ``interval``, and ``drop``, the share
        of the clean mean that is lost, with its ``drop_interval``, the clips paired; None where the clean mean is 0.
    """
    rows = []
    for number, clean in scores[None].items():
        ones = np.ones(len(clean))
        for corruption, by_number in scores.items():
            if corruption is not None and corruption.kind.stream not in streams[number]:
                continue
            values = by_number[number]
            kept = ratio_interval(values, clean, recordings, seed)
            rows.append(
                {
                    "number": number,
                    "corruption": CLEAN if corruption is None else corruption.name,
                    "severity": 0 if corruption is None else corruption.severity,
                    "strength": None if corruption is None else corruption.strength,
                    "mean": float(values.mean()),
                    "interval": ratio_interval(values, ones, recordings, seed),
                    "drop": float(1 - values.mean() / clean.mean()) if clean.any() else None,
                    "drop_interval": None if kept is None else (1 - kept[1], 1 - kept[0]),
                }
            )
    return rows
