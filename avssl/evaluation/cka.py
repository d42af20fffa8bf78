"""Centered kernel alignment (CKA): similarity of two representations of the same clips.

Source: Kornblith et al., 2019, https://arxiv.org/abs/1905.00414, eq. 3 to 5; over batches with the unbiased estimator
HSIC_1 of Song et al., 2012, as in Nguyen, Raghu and Kornblith, 2021, https://arxiv.org/abs/2010.15327, eq. 3.

HSIC is written as the inner product of centered kernel matrices. Centered as in Székely and Rizzo,
2014, https://arxiv.org/abs/1310.2926, off the diagonal alone, it is HSIC_1: so one matrix product
gives every pair of representations. Both ways of centering remove a constant added to a whole row
or column, so features may be centered first and 1 subtracted from an RBF kernel, to keep precision.

Dimensions: n clips of a batch, S representations, F features of one representation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import InputError

Kernel = Literal["linear", "rbf"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)

RBF_FRACTION = 0.8
"""Bandwidth of the RBF kernel as a fraction of the median distance of two clips; the paper tries 0.2, 0.4 and 0.8."""

MIN_CLIPS = 4
"""HSIC_1 divides by n - 3."""


def cka(
    x: Tensor, y: Tensor, *, kernel: Kernel = "linear", rbf_fraction: float = RBF_FRACTION, unbiased: bool = False
) -> float:
    """Compute the CKA of two representations of the same n clips.

    The biased estimate of the paper is in [0, 1], and far above 0 for unrelated representations with more
    features than clips; the unbiased one is about 0 there and may be negative.

    Args:
        x: (n, F1) float.
        y: (n, F2) float, row i of the same clip as row i of ``x``.
        kernel: ``"linear"`` or ``"rbf"``.
        rbf_fraction: Bandwidth as a fraction of the median distance of two clips, > 0.
        unbiased: Take HSIC_1 instead of HSIC.

    Returns:
        1 for representations that differ by rotation and isotropic scale; NaN if one is constant.

    Raises:
        ValueError: For fewer than four clips, different n, other shapes, NaN or infinite features, an unknown kernel
            or a fraction that is not positive.

    Example:
        >>> motion, light = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
        >>> cka(motion, light), round(cka(motion, -3 * motion), 4)
        (0.0, 1.0)
    """
    _check_fraction(rbf_fraction)
    grams = []
    for name, features in {"x": x, "y": y}.items():
        inner = _inner_products(name, features, len(x))
        gram = _gram(inner, kernel, _bandwidth(inner, rbf_fraction))
        grams.append(_u_centered(gram) if unbiased else _double_centered(gram))
    return float(_aligned(_products(grams))[0, 1])


class MinibatchCKA:
    """Unbiased CKA of every pair of S representations, from batches of clips.

    HSIC_1 of the batches is averaged, weighted by their clips, before the division: this estimates the HSIC
    of all clips without bias for any batch size, and only one batch of features is in memory. The first batch
    sets the RBF bandwidths, so that all batches use one kernel.

    Args:
        kernels: Kernels to compute.
        rbf_fraction: Bandwidth as a fraction of the median distance of two clips, > 0.

    Raises:
        ValueError: If a kernel is unknown or the fraction is not positive.

    Example:
        >>> similarity = MinibatchCKA()
        >>> for _ in range(4):  # batches of clips
        ...     similarity.update({"video stem": torch.randn(16, 8), "audio stem": torch.randn(16, 12)})
        >>> similarity.matrix("linear").shape
        (2, 2)
    """

    def __init__(self, kernels: Sequence[Kernel] = KERNELS, rbf_fraction: float = RBF_FRACTION) -> None:
        for kernel in kernels:
            _check_kernel(kernel)
        _check_fraction(rbf_fraction)
        self.names: tuple[str, ...] = ()
        """Names of the S representations, in the order of the first batch."""
        self.num_clips = 0
        self.num_batches = 0
        self._kernels, self._fraction = tuple(kernels), rbf_fraction
        self._bandwidths: dict[str, float] = {}
        self._sums: dict[Kernel, Tensor] = {}

    def update(self, features: Mapping[str, Tensor]) -> None:
        """Add a batch.

        Args:
            features: (n, F) float by name, row i of the same clip in all of them; F may differ. The
                same names in every batch.

        Raises:
            ValueError: For fewer than four clips, different n, other names than before, or NaN or infinite features.
        """
        names = tuple(features)
        if not names or (self.names and set(names) != set(self.names)):
            raise InputError(f"every batch must hold the representations {sorted(self.names)}, got {sorted(names)}.")
        num_clips = len(next(iter(features.values())))
        inner = {name: _inner_products(name, features[name], num_clips) for name in self.names or names}
        if not self.names:
            self.names = names
            self._bandwidths = {name: _bandwidth(value, self._fraction) for name, value in inner.items()}
        for kernel in self._kernels:
            grams = [_u_centered(_gram(value, kernel, self._bandwidths[name])) for name, value in inner.items()]
            hsic = _products(grams) / (num_clips * (num_clips - 3))
            self._sums[kernel] = self._sums.get(kernel, torch.zeros_like(hsic)) + num_clips * hsic
        self.num_clips += num_clips
        self.num_batches += 1

    def matrix(self, kernel: Kernel) -> np.ndarray:
        """Return (S, S) float64, symmetric, in [-1, 1] with 1 on the diagonal; NaN for constant representations.

        Raises:
            ValueError: If there was no batch, or the kernel is not one of ``kernels``.
        """
        if kernel not in self._sums:
            raise InputError(f"nothing was measured with the kernel {kernel!r}; measured: {list(self._sums)}.")
        return _aligned(self._sums[kernel]).numpy()


def correspondence(similarity: np.ndarray) -> float:
    """Return the share of stages that are most similar to their counterpart, the paper's sanity check (section 6.1).

    Args:
        similarity: (S, S): row i compares stage i of one model with the S stages of another of the same architecture.

    Returns:
        Share of rows whose largest value is on the diagonal, in [0, 1]; t equal largest values count
        1 / t, a row with a NaN counts 0. Chance is 1 / S.

    Raises:
        ValueError: If the matrix is not square.

    Example:
        >>> correspondence(np.array([[0.9, 0.2], [0.8, 0.3]]))  # row 1 is most similar to stage 0
        0.5
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not len(similarity):
        raise InputError(f"similarity must be (S, S), stages of one architecture, got {similarity.shape}.")
    largest = similarity == similarity.max(axis=1, keepdims=True)  # NaN equals nothing
    return float((np.diag(largest) / np.maximum(largest.sum(axis=1), 1)).mean())


def find_blocks(similarity: np.ndarray, threshold: float, min_stages: int = 3) -> list[tuple[int, int]]:
    """Find blocks: runs of consecutive stages that are all similar to each other.

    Source: Nguyen, Raghu and Kornblith, 2021, who find them in networks with excess capacity.

    Args:
        similarity: (S, S) of the stages of one encoder, in order.
        threshold: Least CKA of any two stages of a block.
        min_stages: Least length of a block, >= 2.

    Returns:
        ``(start, stop)`` of every block that is no part of a longer one, stop exclusive, in order;
        blocks may overlap. A NaN is below any threshold.

    Example:
        >>> similarity = np.eye(5)
        >>> similarity[1:4, 1:4] = 0.95
        >>> find_blocks(similarity, threshold=0.9)
        [(1, 4)]
    """
    alike = similarity >= threshold
    blocks: list[tuple[int, int]] = []
    for start in range(len(alike)):
        stop = start + 1
        while stop < len(alike) and alike[start : stop + 1, start : stop + 1].all():
            stop += 1
        if stop - start >= min_stages and (not blocks or stop > blocks[-1][1]):
            blocks.append((start, stop))
    return blocks


def _check_kernel(kernel: str) -> None:
    if kernel not in KERNELS:
        raise InputError(f"kernel ({kernel!r}) must be one of {', '.join(KERNELS)}.")


def _inner_products(name: str, features: Tensor, num_clips: int) -> Tensor:
    """Return (n, n) float64 inner products of centered features.

    Features that vary only by float32 rounding count as constant, because the CKA would compare their noise.
    """
    if features.ndim != 2 or not features.is_floating_point():
        raise InputError(f"{name} must be (clips, features) floats, got {tuple(features.shape)} {features.dtype}.")
    if len(features) != num_clips:
        raise InputError(f"{name} holds {len(features)} clips beside {num_clips}: rows must be of the same clips.")
    if num_clips < MIN_CLIPS:
        raise InputError(f"CKA needs at least {MIN_CLIPS} clips, {name} holds {num_clips}.")
    x = features.double()
    bad = ~torch.isfinite(x).all(dim=1)
    if bad.any():
        raise InputError(f"{name} holds NaN or infinity in {int(bad.sum())} of {num_clips} clips.")
    mean = x.mean(dim=0)
    x = x - mean
    x = x * (x.abs().amax(dim=0) > 1e-6 * mean.abs())
    return x @ x.T


def _squared_distances(inner: Tensor) -> Tensor:
    squares = inner.diagonal()
    return (squares + squares[:, None] - 2 * inner).clamp(min=0)


def _check_fraction(rbf_fraction: float) -> None:
    if not 0 < rbf_fraction < float("inf"):
        raise InputError(f"rbf_fraction ({rbf_fraction}) must be a finite number greater than 0.")


def _bandwidth(inner: Tensor, fraction: float) -> float:
    """Return ``fraction`` of the median distance between two clips."""
    distances = _squared_distances(inner).sqrt().cpu().numpy()
    return fraction * float(np.median(distances[np.triu_indices(len(distances), k=1)]))


def _gram(inner: Tensor, kernel: Kernel, bandwidth: float) -> Tensor:
    """Return (n, n) kernel values up to a constant: ``x . y``, or ``exp(-|x - y|^2 / (2 bandwidth^2)) - 1``.

    A bandwidth of 0, if most clips coincide, is replaced by its limit: equal or not.
    """
    _check_kernel(kernel)
    if kernel == "linear":
        return inner
    scale = 2 * max(bandwidth, 1e-100) ** 2
    return torch.expm1(-_squared_distances(inner) / scale)


def _double_centered(gram: Tensor) -> Tensor:
    """Subtract the means of rows and columns: H K H of the paper."""
    return gram - gram.mean(dim=0) - gram.mean(dim=1, keepdim=True) + gram.mean()


def _u_centered(gram: Tensor) -> Tensor:
    """Return the U-centered matrix: zero on the diagonal, zero sums in rows and columns."""
    n = len(gram)
    gram = gram - torch.diag(gram.diagonal())
    sums = gram.sum(dim=0) / (n - 2)
    gram = gram - sums - sums[:, None] + gram.sum() / ((n - 1) * (n - 2))
    return gram - torch.diag(gram.diagonal())


def _products(grams: Sequence[Tensor]) -> Tensor:
    """Return (S, S) inner products of centered kernel matrices."""
    flat = torch.stack([gram.flatten() for gram in grams])
    return flat @ flat.T


def _aligned(hsic: Tensor) -> Tensor:
    """Divide (S, S) by the roots of the diagonal, NaN where that is 0; on the CPU."""
    lengths = hsic.diagonal().sqrt()
    return (hsic / (lengths * lengths[:, None])).clamp(-1, 1).cpu()
