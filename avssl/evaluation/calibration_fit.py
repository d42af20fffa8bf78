"""Choose the numbers of a calibration on validation videos, and measure how well unknown videos are told from known.

Sources: temperature scaling, Guo et al., 2017, https://arxiv.org/abs/1706.04599, section 4.2; AUROC and the false
positive rate at 95 % true positives, Hendrycks and Gimpel, 2017, https://arxiv.org/abs/1610.02136.

Dimensions: N videos, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_auc_score

from avssl.core.errors import InputError
from avssl.evaluation.arrays import finite_array
from avssl.evaluation.calibration import scale_probabilities
from avssl.evaluation.reliability import calibration_numbers

KNOWN_SHARE = 0.95
"""Share of the known videos that FPR95 keeps."""
_WIDEST = 4.6  # temperatures from 0.01 to 100


def fit_temperature(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Return the temperature that gives validation videos the highest likelihood.

    A normal prior of width 1 on its logarithm keeps it finite where all videos are classified right, and loses its
    weight with more videos: it counts as much as half a nat of the likelihood of all of them together.

    Args:
        probabilities: (N, K) of validation videos, uncalibrated.
        targets: (N,) classes, or (N, K) bool.
    """
    values = finite_array("probabilities", probabilities, "(N, K)")
    truth = np.asarray(targets)

    def loss(log_temperature: float) -> float:
        scaled = scale_probabilities(values, float(np.exp(log_temperature)), truth.ndim == 2)
        nll = calibration_numbers(scaled, truth)["nll"]
        return nll * (truth.size if truth.ndim == 2 else len(truth)) + log_temperature**2 / 2

    found = minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def threshold_that_keeps(scores: ArrayLike, share: float) -> float:
    """Return the highest threshold that at least a share of some scores reach.

    Args:
        scores: (N,) of known videos.
        share: In (0, 1].
    """
    values = np.sort(finite_array("scores", scores, "(N,)"))
    if not 0 < share <= 1:
        raise InputError(f"share ({share}) must be in (0, 1].")
    return float(values[int((1 - share) * len(values) + 1e-9)])


def unknown_numbers(known: ArrayLike, unknown: ArrayLike) -> dict[str, float]:
    """Measure how well a score tells known from unknown videos; known ones should score higher.

    Args:
        known: (N,) scores of videos of the training classes.
        unknown: (M,) scores of videos of other classes.

    Returns:
        ``auroc``, 0.5 for a score that tells nothing, and ``fpr95``: the share of unknown videos above the threshold
        that keeps 95 % of the known ones, 0.95 for a score that tells nothing.
    """
    one, other = finite_array("known", known, "(N,)"), finite_array("unknown", unknown, "(M,)")
    is_known = np.repeat([True, False], [len(one), len(other)])
    above = float((other >= threshold_that_keeps(one, KNOWN_SHARE)).mean())
    return {"auroc": float(roc_auc_score(is_known, np.concatenate([one, other]))), "fpr95": above}
