"""Calibrated probabilities of a classifier, and scores that tell videos of its classes from others.

Sources: temperature scaling, Guo et al., 2017, https://arxiv.org/abs/1706.04599, section 4.2; maximum probability,
Hendrycks and Gimpel, 2017, https://arxiv.org/abs/1610.02136; energy, Liu et al., 2020,
https://arxiv.org/abs/2010.03759, and for several labels the sum over the classes of Wang et al., 2021, https://arxiv.org/abs/2109.14162.

Dimensions: N videos, W clips of each, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit, logsumexp, softmax

from avssl.core.errors import InputError
from avssl.core.ranges import Signed, Temperature, checked
from avssl.evaluation.arrays import finite_array
from avssl.evaluation.video_scores import Average, video_probabilities

UnknownScore = Literal["energy", "probability"]
UNKNOWN_SCORES: tuple[UnknownScore, ...] = ("energy", "probability")


@checked
@dataclass(frozen=True)
class Calibration:
    """Numbers that turn the logits of a trained classifier into probabilities, and find videos of no class."""

    temperature: Temperature = 1.0
    """Divisor of the logarithms of the probabilities; 1 leaves them as they are."""
    unknown_score: UnknownScore = "energy"
    """Score that tells known from unknown videos; higher is more like the training classes."""
    unknown_threshold: Signed | None = None
    """Videos that score below are unknown; None if there were no validation rows to choose it on."""

    def __post_init__(self) -> None:
        if self.unknown_score not in UNKNOWN_SCORES:
            raise InputError(f"unknown_score ({self.unknown_score!r}) must be one of {', '.join(UNKNOWN_SCORES)}.")
        if not isinstance(self.unknown_threshold, int | float | None):
            raise InputError(f"unknown_threshold ({self.unknown_threshold!r}) must be a number or None.")

    def probabilities(self, logits: ArrayLike, average: Average, multi_label: bool = False) -> np.ndarray:
        """Return (N, K) calibrated probabilities of videos from (N, W, K) logits of their clips."""
        return scale_probabilities(video_probabilities(logits, average, multi_label), self.temperature, multi_label)

    def is_unknown(self, logits: ArrayLike, average: Average, multi_label: bool = False) -> np.ndarray:
        """Return the (N,) bool mask of the videos that score below the threshold; none without a threshold."""
        if self.unknown_threshold is None:
            return np.zeros(len(np.asarray(logits)), dtype=bool)
        scores = known_scores(logits, self.probabilities(logits, average, multi_label), multi_label)
        return np.asarray(scores[self.unknown_score] < self.unknown_threshold)


def scale_probabilities(probabilities: ArrayLike, temperature: float, multi_label: bool = False) -> np.ndarray:
    """Divide the logarithms of probabilities by a temperature, and normalize again.

    For a single clip this is temperature scaling of its logits, as a softmax ignores what all logits have in common.
    After averaging over clips it still keeps the order of the classes, so accuracies do not change. With several
    labels each class is a probability of its own, and the order of the videos within a class does not change.

    Args:
        probabilities: (N, K).
        temperature: > 0; 1 returns the same numbers.
        multi_label: Scale each class as a sigmoid.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if temperature == 1:
        return values
    with np.errstate(divide="ignore"):  # a class of probability 0 keeps it
        scaled = (logit(values) if multi_label else np.log(values)) / temperature
    return np.asarray(expit(scaled) if multi_label else softmax(scaled, axis=-1))


def known_scores(logits: ArrayLike, probabilities: ArrayLike, multi_label: bool = False) -> dict[str, np.ndarray]:
    """Return (N,) scores by name; the higher, the more a video looks like one of the training classes.

    Args:
        logits: (N, W, K) logits of the clips, for ``energy``: the negative free energy at temperature 1, which is
            log sum exp over the classes (with several labels the sum over the classes of log(1 + exp)), averaged
            over the clips.
        probabilities: (N, K) probabilities of the videos, for ``probability``: the highest of them.
        multi_label: Whether each class is a sigmoid.
    """
    values = finite_array("logits", logits, "(N, W, K)")
    of_clips = np.logaddexp(0, values).sum(axis=-1) if multi_label else logsumexp(values, axis=-1)
    return {
        "energy": of_clips.mean(axis=1),
        "probability": finite_array("probabilities", probabilities, "(N, K)").max(1),
    }
