"""How a classifier's answers change when its clips are disturbed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from avssl.evaluation.bootstrap import bootstrap_interval
from avssl.evaluation.checked import class_numbers


@dataclass(frozen=True)
class DisturbedScores:
    """Answers to disturbed clips beside those to the same clips as they are; shares in [0, 1]."""

    accuracy: float
    """Under the disturbance."""
    change: float
    """Accuracy less that of the clean clips, in [-1, 1]."""
    interval: tuple[float, float]
    """95 % of the change, by the paired bootstrap over clips."""
    changed: float
    """Share of clips whose answer is another than it was."""
    became_partner: float | None
    """Share of clips whose answer became the class of their partner; None without partners."""


def disturbed_scores(
    clean: ArrayLike, disturbed: ArrayLike, labels: ArrayLike, partners: ArrayLike | None = None, seed: int = 0
) -> DisturbedScores:
    """Compares two answers to the same clips.

    Args:
        clean: (N,) predicted classes of the clips as they are.
        disturbed: (N,) predicted classes of the disturbed clips.
        labels: (N,) true classes.
        partners: (N,) classes of the clips whose sound, picture or object was put in.
        seed: Of the bootstrap.

    Raises:
        ValueError: If these are not whole numbers >= 0 of one length N >= 1.
    """
    truth = np.asarray(labels)
    given = {"labels": truth, "clean": clean, "disturbed": disturbed}
    numbers = {name: class_numbers(name, value, len(truth), _MOST_CLASSES) for name, value in given.items()}
    now, before = (numbers[name] == numbers["labels"] for name in ("disturbed", "clean"))
    changed = numbers["disturbed"] != numbers["clean"]
    became = None
    if partners is not None:
        partner = class_numbers("partners", partners, len(truth), _MOST_CLASSES)
        became = float((changed & (numbers["disturbed"] == partner)).mean())
    difference = now.astype(float) - before
    return DisturbedScores(
        accuracy=float(now.mean()),
        change=float(difference.mean()),
        interval=bootstrap_interval(difference, seed),
        changed=float(changed.mean()),
        became_partner=became,
    )


_MOST_CLASSES = 2**31
