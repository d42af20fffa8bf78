"""Score predictions on disturbed clips, and by group of clips.

Dimensions: N test clips.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avssl.downstream.robustness.disturbances import CLEAN, DISTURBANCES
from avssl.evaluation import disturbance_scores, group_gap, group_gaps, group_names, subgroup_accuracy

ClassPredictions = dict[str, dict[str, np.ndarray]]
"""Modality -> disturbance -> (N,) int64 predicted classes."""


def score_disturbances(
    predictions: ClassPredictions, labels: np.ndarray, partners: np.ndarray, seed: int
) -> list[dict[str, Any]]:
    """Return a row for each modality and disturbance: :class:`~avssl.evaluation.DisturbanceScores` as plain values.

    Args:
        predictions: Predicted classes of N clips.
        labels: (N,) int64 true classes.
        partners: (N,) positions of the clips' partners among them.

    Returns:
        The rows; ``reached`` is False if the disturbance does not change the modality.
    """
    rows = []
    for modality, predicted in predictions.items():
        for name, disturbed in predicted.items():
            disturbance = DISTURBANCES.get(name)
            partner = labels[partners] if disturbance is not None and disturbance.uses_partner else None
            scores = disturbance_scores(predicted[CLEAN], disturbed, labels, partner, seed)
            reached = disturbance is None or disturbance.modality in modality
            rows.append({"disturbance": name, "modality": modality, "reached": reached, **vars(scores)})
    return rows


def score_groups(
    values: np.ndarray, predictions: ClassPredictions, labels: np.ndarray, recordings: np.ndarray, seed: int
) -> dict[str, Any]:
    """Return the accuracy on clean clips by group and modality, and the gap between the best and the worst."""
    groups: dict[str, dict[str, Any]] = {}
    gaps = {}
    for modality, predicted in predictions.items():
        found = subgroup_accuracy(predicted[CLEAN] == labels, values)
        for name, group in found.items():
            about = {"accuracy": group.accuracy, "interval": group.interval}
            groups.setdefault(name, {"n": group.n})[modality] = about
        best, worst, gap = group_gap(found)
        test = group_gaps(predicted[CLEAN] == labels, group_names(values), recordings, seed)
        gaps[modality] = {"best": best, "worst": worst, "gap": gap, "test": None if test is None else vars(test)}
    return {"groups": groups, "gap": gaps}
