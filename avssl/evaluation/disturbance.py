"""Effect of a disturbance of the clips on a classifier's predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from avssl.evaluation.arrays import class_numbers
from avssl.evaluation.intervals import mean_interval


@dataclass(frozen=True)
class DisturbanceScores:
    """Predictions for disturbed clips compared with those for the clean clips; shares in [0, 1].

    Example:
        >>> clean, disturbed, labels, partners = [0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1]
        >>> scores = disturbance_scores(clean, disturbed, labels, recordings=range(4), partners=partners)
        >>> scores.changed, scores.became_partner
        (0.5, 0.5)
    """

    accuracy: float
    """Accuracy on the disturbed clips."""
    accuracy_interval: tuple[float, float]
    """95 % interval of ``accuracy`` over recordings."""
    change: float
    """Accuracy on disturbed minus accuracy on clean clips, in [-1, 1]."""
    interval: tuple[float, float]
    """95 % interval of ``change`` by the paired bootstrap over recordings."""
    changed: float
    """Share of clips whose predicted class changes."""
    became_partner: float | None
    """Share of clips whose predicted class changes to that of their partner; None without partners."""


def disturbance_scores(
    clean: ArrayLike,
    disturbed: ArrayLike,
    labels: ArrayLike,
    recordings: ArrayLike,
    partners: ArrayLike | None = None,
    seed: int = 0,
) -> DisturbanceScores:
    """Compare the predictions for disturbed and clean clips.

    Args:
        clean: (N,) predicted classes of the clean clips.
        disturbed: (N,) predicted classes of the disturbed clips.
        labels: (N,) true classes.
        recordings: (N,) recordings of the clips.
        partners: (N,) classes of the clips from which audio, frames or an object were taken.
        seed: Random seed of the bootstrap.

    Raises:
        ValueError: If these are not integers >= 0 of one length N >= 1.

    Example:
        >>> clean, disturbed, labels = [0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 1, 0]
        >>> scores = disturbance_scores(clean, disturbed, labels, recordings=range(4))
        >>> scores.accuracy, scores.change
        (0.5, -0.5)
    """
    truth = np.asarray(labels)
    given = {"labels": truth, "clean": clean, "disturbed": disturbed}
    numbers = {name: class_numbers(name, value, len(truth), _MAX_CLASSES) for name, value in given.items()}
    now, before = (numbers[name] == numbers["labels"] for name in ("disturbed", "clean"))
    changed = numbers["disturbed"] != numbers["clean"]
    became = None
    if partners is not None:
        partner = class_numbers("partners", partners, len(truth), _MAX_CLASSES)
        became = float((changed & (numbers["disturbed"] == partner)).mean())
    difference = now.astype(float) - before
    return DisturbanceScores(
        accuracy=float(now.mean()),
        accuracy_interval=mean_interval(now, recordings, seed),
        change=float(difference.mean()),
        interval=mean_interval(difference, recordings, seed),
        changed=float(changed.mean()),
        became_partner=became,
    )


_MAX_CLASSES = 2**31
