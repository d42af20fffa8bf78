"""What a classifier answers about disturbed clips, and how good that is.

Dimensions: N tested clips, K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avssl.evaluation import disturbed_scores, group_gap, modality_probes, subgroup_accuracy
from avssl.robustness.disturbed import CLEAN, DISTURBANCES, Disturbed

Answers = dict[str, dict[str, np.ndarray]]
"""Modality -> disturbance -> (N,) int64 predicted classes."""


def probe_answers(
    features: tuple[np.ndarray, np.ndarray], labels: np.ndarray, disturbed: Disturbed, truth: np.ndarray, seed: int
) -> tuple[Answers, np.ndarray]:
    """Of the three linear probes (video, audio, both by late fusion) that clean training clips fit.

    Args:
        features: Video and audio features of the training clips.
        labels: Their classes.
        disturbed: The tested clips.
        truth: (N,) their classes; no probe sees them.
        seed: Of the held-out part of the training clips.

    Returns:
        Answers, and the (K,) names of the classes.

    Raises:
        ValueError: As :func:`avssl.evaluation.linear_probe`.
    """
    # The test clips are those of all disturbances, one after the other.
    joined = [
        np.concatenate([clean, *(sides[modality].mean(axis=1) for sides in disturbed.features.values())])
        for clean, modality in zip(features, ("video", "audio"), strict=True)
    ]
    known = np.concatenate([labels, np.tile(truth, len(disturbed.features))])
    fit = np.arange(len(known)) < len(labels)
    probes = modality_probes(joined[0], joined[1], known, fit, ~fit, seed=seed)
    answers = {
        modality: dict(zip(disturbed.features, result.predicted.reshape(-1, len(truth)), strict=True))
        for modality, result in probes.items()
    }
    return answers, np.asarray(probes["video"].classes)


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
