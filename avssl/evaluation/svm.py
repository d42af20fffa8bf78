"""Linear support vector machines on frozen features of several windows of each file.

The protocol of sound classification in AVID (https://arxiv.org/abs/2004.12943) and its predecessors: each window
is a training example with its file's label; at test, the decision values of a file's windows are averaged.

Dimensions: N training files, M test files, W windows of each, D features, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from einops import rearrange, reduce
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from avssl.core.errors import InputError
from avssl.evaluation.classifier_result import ClassifierResult, classifier_fields
from avssl.evaluation.labeled_features import labeled_split

DEVIATION_FLOOR = 1e-2
"""Added to the standard deviation of each feature, so that a nearly constant feature stays small."""


@dataclass(frozen=True, eq=False)
class SvmResult(ClassifierResult):
    """Numbers of the support vector machines on the test files.

    Example:
        >>> windows, labels = np.array([[[-1.0]], [[1.0]]] * 4), ["dog", "rain"] * 4  # one window of each file
        >>> result = svm_classifier(windows, labels, np.array([[[-0.9]], [[-1.1]]]), ["dog", "rain"])
        >>> result.accuracy, result.converged
        (0.5, True)
    """

    converged: bool
    """True if all reached their tolerance within ``max_iterations``; the published 200 are often too few."""


def svm_classifier(
    train_windows: np.ndarray,
    train_labels: Sequence[str | int] | np.ndarray,
    test_windows: np.ndarray,
    test_labels: Sequence[str | int] | np.ndarray,
    *,
    c: float = 10.0,
    max_iterations: int = 200,
    seed: int = 0,
) -> SvmResult:
    """Fit one-vs-rest linear machines with hinge loss, and score them on the test files.

    Features are standardized by the mean and deviation (+ 0.01) over all training windows. The tolerance is
    1e-4, as published.

    Args:
        train_windows: (N, W, D) float.
        train_labels: N strings or ints, at least two different.
        test_windows: (M, V, D) float; V may differ from W.
        test_labels: M strings or ints, that occur in training.
        c: Weight of the hinge losses relative to ``|w|^2 / 2``, > 0: 10 for ESC-50 and 1 for DCASE 2013.
        max_iterations: Limit of the solver, in epochs.
        seed: Random seed of the solver.

    Raises:
        ValueError: On invalid features or labels (see :func:`linear_probe`), or ``c`` not above 0.

    Example:
        >>> windows, labels = np.array([[[-1.0], [-2.0]], [[1.0], [2.0]]]), ["dog", "rain"]  # two windows of each file
        >>> svm_classifier(windows, labels, windows + 0.1, labels).accuracy
        1.0
    """
    if not c > 0:
        raise InputError(f"c ({c}) must be greater than 0.")
    split = labeled_split(train_windows, train_labels, test_windows, test_labels, "(files, windows, features)")
    mean = split.train_x.mean(axis=(0, 1))
    scale = split.train_x.std(axis=(0, 1)) + DEVIATION_FLOOR
    windows = split.train_x.shape[1]
    train, test = (rearrange((x - mean) / scale, "n w d -> (n w) d") for x in (split.train_x, split.test_x))
    if train.shape[1] > len(train):
        # A machine sees features only through their inner products with training windows, so they are turned into the
        # span of these: the same machine from n numbers for each window instead of D.
        basis = np.linalg.qr(train.T).Q
        train, test = train @ basis, test @ basis
    machine = LinearSVC(loss="hinge", C=c, tol=1e-4, max_iter=max_iterations, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported as SvmResult.converged
        machine.fit(train, np.repeat(split.train_y, windows))
    decisions = machine.decision_function(test)
    if decisions.ndim == 1:  # one machine for two classes
        decisions = np.stack([-decisions, decisions], axis=1)
    by_file = reduce(decisions, "(m v) k -> m k", "mean", m=len(split.test_x))
    return SvmResult(
        **classifier_fields(by_file, split.test_y, split.classes, len(split.train_y)),
        converged=bool(machine.n_iter_ < max_iterations),
    )
