"""Canonical correlations of two representations of the same clips: CCA, and SVCCA of their main directions.

Source: Raghu et al., 2017, https://arxiv.org/abs/1706.05806, section 2.1. CCA is invariant to every invertible linear
map of either representation, SVCCA to rotation and isotropic scale, as CKA is: the directions of little variance, which
CCA counts as much as all others, are left out first.

Unrelated representations correlate too: with p and q directions of n clips the mean squared correlation is about
max(p, q) / n. Compare a score with that of shuffled clips, and take many more clips than directions.

Dimensions: n clips, F features, k directions of a representation, S representations.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import InputError

VARIANCE = 0.99
"""Share of the variance that the kept directions explain, as in the paper."""


def cca(x: Tensor, y: Tensor) -> np.ndarray:
    """Return the canonical correlations of two representations, largest first.

    Args:
        x: (n, F1) float.
        y: (n, F2) float, row i of the same clip as row i of ``x``.

    Returns:
        (min(rank of x, rank of y),) float64 in [0, 1]; empty if one of them is constant.

    Raises:
        ValueError: If the shapes do not fit, a feature is not finite, or there are too few clips: correlations are 1
            whatever the features are if both ranks together exceed n - 1.

    Example:
        >>> motion, light = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
        >>> cca(motion, 5 - 2 * motion).round(4), cca(motion, light).round(4)
        (array([1.]), array([0.]))
    """
    _check_clips(x, y)
    return _correlations(main_directions(x, 1.0), main_directions(y, 1.0))


def svcca(x: Tensor, y: Tensor, *, variance: float = VARIANCE) -> float:
    """Return the mean canonical correlation of the main directions of two representations.

    Args:
        x: (n, F1) float.
        y: (n, F2) float, row i of the same clip as row i of ``x``.
        variance: Share of the variance to keep, in (0, 1].

    Returns:
        A number in [0, 1]; NaN if one of the representations is constant.

    Raises:
        ValueError: As :func:`cca`, or if ``variance`` is out of range.

    Example:
        >>> motion, light = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
        >>> mostly_motion = torch.cat([motion, 0.01 * light], dim=1)  # 0.01 % of the variance is light's
        >>> round(svcca(mostly_motion, motion), 4), round(svcca(mostly_motion, light), 4)
        (1.0, 0.0)
    """
    _check_clips(x, y)
    return _mean(_correlations(main_directions(x, variance), main_directions(y, variance)))


def svcca_matrix(
    features: Mapping[str, Tensor], *, variance: float = VARIANCE, order: np.ndarray | None = None
) -> tuple[np.ndarray, list[int]]:
    """Compute the SVCCA of every pair of S representations.

    Args:
        features: (n, F) float by name; F may differ.
        variance: Share of the variance to keep, in (0, 1].
        order: (n,) permutation of the clips of the second representation of each pair, for a control that must be
            low; None compares each clip with itself.

    Returns:
        (S, S) float64 in [0, 1], NaN for constant representations and where the clips are too few, and the number of
        kept directions of each representation.

    Raises:
        ValueError: If numbers of clips differ, or a feature is not finite.
    """
    _check_clips(*features.values())
    bases = [main_directions(value, variance) for value in features.values()]
    others = bases if order is None else [basis[torch.from_numpy(order)] for basis in bases]
    matrix = np.full((len(bases), len(bases)), np.nan)
    for i, basis in enumerate(bases):
        for j, other in enumerate(others):
            if _enough_clips(basis, other):
                matrix[i, j] = _mean(_correlations(basis, other))
    return matrix, [basis.shape[1] for basis in bases]


def main_directions(x: Tensor, variance: float) -> Tensor:
    """Return (n, k) float64 orthonormal columns: the centered features along their k main directions.

    Args:
        x: (n, F) float.
        variance: k is the smallest number of directions with this share of the variance, in (0, 1]; 1 keeps all that
            are above rounding.

    Raises:
        ValueError: If ``x`` has another shape or is not finite, or ``variance`` is out of range.
    """
    if not 0 < variance <= 1:
        raise InputError(f"variance ({variance}) must be in (0, 1].")
    if x.ndim != 2 or not x.is_floating_point() or not torch.isfinite(x).all():
        raise InputError(f"a representation is (clips, features) of finite floats, got {tuple(x.shape)} {x.dtype}.")
    centered = x.double() - x.double().mean(dim=0)
    left, values, _ = torch.linalg.svd(centered, full_matrices=False)
    # Features that vary only by the rounding of their own format count as constant.
    scale = max(float(x.abs().max()) if x.numel() else 0.0, 1e-300) * max(x.shape) ** 0.5
    values = values * (values > 10 * torch.finfo(x.dtype).eps * scale)
    share = values.square().cumsum(0) / max(float(values.square().sum()), 1e-300)
    wanted = int((share < variance * (1 - 1e-12)).sum()) + 1
    return left[:, : min(wanted, int((values > 0).sum()))]


def _correlations(x: Tensor, y: Tensor) -> np.ndarray:
    """Return the cosines of the principal angles between two (n, k) orthonormal bases."""
    if not _enough_clips(x, y):
        raise InputError(
            f"{len(x)} clips are too few for {x.shape[1]} and {y.shape[1]} directions: together they must be fewer "
            "than the clips, or they correlate in any case. Take more clips, or keep less of the variance."
        )
    if not min(x.shape[1], y.shape[1]):
        return np.zeros(0)
    found: np.ndarray = torch.linalg.svdvals(x.T @ y).clamp(0, 1).cpu().numpy()
    return found


def _enough_clips(x: Tensor, y: Tensor) -> bool:
    return x.shape[1] + y.shape[1] <= len(x) - 1


def _mean(correlations: np.ndarray) -> float:
    return float(correlations.mean()) if len(correlations) else float("nan")


def _check_clips(*features: Tensor) -> None:
    counts = sorted({len(value) for value in features})
    if len(counts) != 1:
        raise InputError(f"all representations must be of the same clips, got {counts} rows.")
