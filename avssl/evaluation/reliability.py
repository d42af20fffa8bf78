"""Agreement of probabilities with outcomes: expected calibration error, Brier score and reliability diagrams.

Sources: Brier, 1950, https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2; expected calibration error of the
top label, Guo et al., 2017, https://arxiv.org/abs/1706.04599, section 2.

With one label per video the confidence is the highest probability, and it is right if its class is the true one. With
several labels each class of each video is a prediction of its own, which is right if the video has the class.

Dimensions: N videos, K classes, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from avssl.core.errors import InputError
from avssl.evaluation.arrays import class_numbers, finite_array

NUM_BINS = 15
"""Bins of equal width, as in most published numbers."""
_LEAST = np.finfo(np.float64).tiny


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predictions in bins of confidence; (B,) each, NaN in empty bins."""

    confidence: np.ndarray
    """Mean confidence."""
    accuracy: np.ndarray
    """Share of right predictions."""
    count: np.ndarray
    """Number of predictions, int64."""

    @property
    def expected_error(self) -> float:
        """Mean of |accuracy - confidence| over the predictions, in [0, 1]."""
        gap = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(gap * self.count) / self.count.sum())


def reliability(probabilities: ArrayLike, targets: ArrayLike, num_bins: int = NUM_BINS) -> Reliability:
    """Sort predictions into bins of equal width by their confidence, each without its lower edge.

    Args:
        probabilities: (N, K).
        targets: (N,) classes, or (N, K) bool.
        num_bins: B, at least 1.

    Raises:
        InputError: If the shapes do not match, or a probability is not in [0, 1].
    """
    values, truth = _checked(probabilities, targets)
    if truth.ndim == 2:
        confidence, right = values.ravel(), truth.ravel()
    else:
        confidence, right = values.max(axis=1), values.argmax(axis=1) == truth
    bins = np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], confidence)
    count = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights=each, minlength=num_bins) / count for each in (confidence, right)]
    return Reliability(means[0], means[1], count)


def calibration_numbers(probabilities: ArrayLike, targets: ArrayLike) -> dict[str, float]:
    """Return ``ece``, ``brier`` and ``nll``, the mean negative log-likelihood in nats; smaller is better.

    The Brier score is the mean over the videos of the squared distance from the true classes, in [0, 2] for one label;
    with several labels, ``brier`` and ``nll`` are means over videos and classes. Arguments as for :func:`reliability`.
    """
    values, truth = _checked(probabilities, targets)
    if truth.ndim == 2:
        brier = float(((values - truth) ** 2).mean())
        likelihood = np.where(truth, values, 1 - values)
    else:
        brier = float(((values - np.eye(values.shape[1])[truth]) ** 2).sum(axis=1).mean())
        likelihood = np.take_along_axis(values, truth[:, None], axis=1)
    nll = float(-np.log(np.maximum(likelihood, _LEAST)).mean())
    return {"ece": reliability(values, truth).expected_error, "brier": brier, "nll": nll}


def _checked(probabilities: ArrayLike, targets: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    values, truth = finite_array("probabilities", probabilities, "(N, K)"), np.asarray(targets)
    if values.min() < 0 or values.max() > 1 + 1e-9:
        raise InputError(f"probabilities must be in [0, 1], got {values.min():g} to {values.max():g}.")
    if truth.ndim != 2:
        return values, class_numbers("targets", truth, *values.shape)
    if truth.shape != values.shape or truth.dtype != bool:
        raise InputError(f"targets must be {values.shape} bool as probabilities are, got {truth.shape} {truth.dtype}.")
    return values, truth
