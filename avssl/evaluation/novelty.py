"""Novelty of vectors: how far they lie from those that a Gaussian was fitted to.

The score is the squared Mahalanobis distance under probabilistic principal component analysis: exact along the first
directions, and with one mean variance along all others, so that few rows are enough and little is stored.

Source: Tipping and Bishop, 1999, https://doi.org/10.1111/1467-9868.00196; the distance of features as a test for
foreign input: Lee et al., 2018, https://arxiv.org/abs/1807.03888.

Dimensions: N fitted rows, M held-out rows, D features, K directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from avssl.core.errors import InputError

DIRECTIONS = 16
"""Most directions whose variance is kept; at most a quarter of the fitted rows."""
_SMALLEST_SHARE = 1e-6  # of the mean variance: channels that never change must not make every change infinitely novel


@dataclass(frozen=True, eq=False)
class Novelty:
    """A Gaussian of vectors, and the score above which a vector is called novel."""

    mean: Tensor
    """(D,) float32."""
    directions: Tensor
    """(K, D) float32 principal directions, orthonormal."""
    variances: Tensor
    """(K,) float32 along them, > 0."""
    residual: Tensor
    """() float32 mean variance along the others, > 0."""
    threshold: Tensor
    """() float32: scores above it are novel."""
    false_alarms: Tensor
    """() float32: expected share of rows like the held-out ones above the threshold, in (0, 1)."""
    num_rows: Tensor
    """() int64: held-out rows that the threshold was set by."""

    def scores(self, vectors: Tensor) -> Tensor:
        """Return (n,) float64 squared distances of (n, D) vectors."""
        centered = vectors.double() - self.mean.double()
        along = centered @ self.directions.double().T
        rest = (centered.square().sum(dim=1) - along.square().sum(dim=1)).clamp(min=0)
        return (along.square() / self.variances.double()).sum(dim=1) + rest / self.residual.double()


def fit_novelty(fitted: Tensor, held_out: Tensor, false_alarms: float) -> Novelty:
    """Fit the Gaussian to some rows and set its threshold by others.

    The threshold is the smallest held-out score that a further row of the same kind exceeds with probability at most
    ``false_alarms`` (the split conformal quantile, https://arxiv.org/abs/1604.04173). Fewer than 1 / ``false_alarms``
    rows cannot promise so little: the threshold is then their highest score, and the promise 1 / (M + 1).

    Args:
        fitted: (N, D), N >= 8.
        held_out: (M, D), M >= 1, not among the fitted rows.
        false_alarms: Accepted share of false alarms, in (0, 1).

    Raises:
        InputError: If shapes do not fit, there are too few rows, or a value is not finite.
    """
    if fitted.ndim != 2 or held_out.ndim != 2 or fitted.shape[1] != held_out.shape[1]:
        raise InputError(f"rows must be (N, D) and (M, D), got {tuple(fitted.shape)} and {tuple(held_out.shape)}.")
    if len(fitted) < 8 or len(held_out) < 1 or not 0 < false_alarms < 1:
        raise InputError(
            f"at least 8 fitted rows, 1 held-out row and false_alarms in (0, 1) are needed, got {len(fitted)}, "
            f"{len(held_out)} and {false_alarms}."
        )
    x = fitted.double()
    if not bool(x.isfinite().all() and held_out.isfinite().all()):
        raise InputError("rows must be finite.")
    mean = x.mean(dim=0)
    _, singular, directions = torch.linalg.svd(x - mean, full_matrices=False)
    variances = singular.square() / (len(x) - 1)
    floor = max(float(variances.sum()) / x.shape[1] * _SMALLEST_SHARE, torch.finfo(torch.float32).tiny * 1e6)
    kept = min(DIRECTIONS, len(x) // 4, x.shape[1] - 1)
    residual = max(float(variances[kept:].sum()) / (x.shape[1] - kept), floor)
    values = {
        "mean": mean.float(),
        "directions": directions[:kept].float().contiguous(),
        "variances": variances[:kept].clamp(min=floor).float(),
        "residual": torch.tensor(residual),
        "num_rows": torch.tensor(len(held_out)),
    }
    unset = Novelty(**values, threshold=torch.tensor(math.inf), false_alarms=torch.tensor(false_alarms))
    scores = unset.scores(held_out).sort().values
    count = len(scores)
    rank = min(math.ceil((count + 1) * (1 - false_alarms) - 1e-9), count)
    share = torch.tensor(max(false_alarms, 1 / (count + 1)))
    return Novelty(**values, threshold=scores[rank - 1].float(), false_alarms=share)
