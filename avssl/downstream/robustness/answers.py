"""How good a classifier's answers about disturbed clips are, and for whom.

Dimensions: N tested clips.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avssl.downstream.robustness.disturbed import CLEAN, DISTURBANCES
from avssl.evaluation import disturbed_scores, group_gap, subgroup_accuracy

Answers = dict[str, dict[str, np.ndarray]]
"""Modality -> disturbance -> (N,) int64 predicted classes."""


def score_disturbances(answers: Answers, labels: np.ndarray, partners: np.ndarray, seed: int) -> list[dict[str, Any]]:
    """A row each modality and disturbance: :class:`~avssl.evaluation.DisturbedScores` as plain values.

    Args:
        answers: Of N clips.
        labels: (N,) int64 true classes.
        partners: (N,) positions of the clips' partners among them.
        seed: Of the bootstrap.

    Returns:
        ``reached`` tells whether the disturbance touches the modality at all.
    """
    rows = []
    for modality, predicted in answers.items():
        for name, answer in predicted.items():
            each = DISTURBANCES.get(name)
            partner = labels[partners] if each is not None and each.uses_partner else None
            scores = disturbed_scores(predicted[CLEAN], answer, labels, partner, seed)
            reached = each is None or each.modality in modality
            rows.append({"disturbance": name, "modality": modality, "reached": reached, **vars(scores)})
    return rows


def score_groups(values: np.ndarray, answers: Answers, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy on clean clips by group and modality, and the gap between the best and the worst group.

    Args:
        values: (N,) the group of each clip.
        answers: Of N clips.
        labels: (N,) int64 true classes.
    """
    groups: dict[str, dict[str, Any]] = {}
    gaps = {}
    for modality, predicted in answers.items():
        found = subgroup_accuracy(predicted[CLEAN] == labels, values)
        for name, group in found.items():
            about = {"accuracy": group.accuracy, "interval": group.interval}
            groups.setdefault(name, {"n": group.n})[modality] = about
        best, worst, gap = group_gap(found)
        gaps[modality] = {"best": best, "worst": worst, "gap": gap}
    return {"groups": groups, "gap": gaps}
