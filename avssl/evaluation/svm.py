"""Linear support vector machines on frozen features, several windows a file.

The protocol of sound classification in AVID (https://arxiv.org/abs/2004.12943) and its forerunners:
each file gives several windows, each window is a training example with the file's label, and at test the
decision values of a file's windows are averaged before the class is chosen.

Dimensions: N training files, M test files, W windows of each, D features, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from avssl.core.errors import InputError
from avssl.evaluation.scored import Scored, labeled_split, scores_of

DEVIATION_FLOOR = 1e-2
"""Added to the standard deviation that features are divided by, so that a nearly constant one stays small."""


@dataclass(frozen=True, eq=False)
class SvmResult(Scored):
    """What the machines found on the test files."""

    converged: bool
    """Whether all reached their tolerance within ``max_iterations``; the published 200 often do not suffice."""


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
    """One-vs-rest linear machines with hinge loss, scored by the mean decision value of a file's windows.

    Features are standardized by the mean and deviation (+ 0.01) over all training windows. Tolerance 1e-4,
    as published.

    Args:
        train_windows: (N, W, D) float.
        train_labels: N strings or ints, at least two different.
        test_windows: (M, V, D) float; V may differ from W.
        test_labels: M strings or ints, each seen in training.
        c: Weight of the hinge losses beside ``|w|^2 / 2``, > 0: 10 for ESC-50 and 1 for DCASE 2013.
        max_iterations: Of the solver, over the data.
        seed: Of the order in which the solver visits examples.

    Raises:
        ValueError: On windows and labels that do not fit (see :func:`linear_probe`), or ``c`` not above 0.
    """
    if not c > 0:
        raise InputError(f"c ({c}) must be greater than 0.")
    split = labeled_split(train_windows, train_labels, test_windows, test_labels, "(files, windows, features)")
    mean = split.train_x.mean(axis=(0, 1))
    scale = split.train_x.std(axis=(0, 1)) + DEVIATION_FLOOR
    windows = split.train_x.shape[1]
    machine = LinearSVC(loss="hinge", C=c, tol=1e-4, max_iter=max_iterations, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported as SvmResult.converged
        machine.fit(_flat((split.train_x - mean) / scale), np.repeat(split.train_y, windows))
    decisions = machine.decision_function(_flat((split.test_x - mean) / scale))
    if decisions.ndim == 1:  # one machine serves two classes
        decisions = np.stack([-decisions, decisions], axis=1)
    by_file = decisions.reshape(*split.test_x.shape[:2], -1).mean(axis=1)
    return SvmResult(
        **scores_of(by_file, split.test_y, split.classes, len(split.train_y)),
        converged=bool(machine.n_iter_ < max_iterations),
    )


def _flat(windows: np.ndarray) -> np.ndarray:
    """(N, W, D) as (N * W, D)."""
    return windows.reshape(-1, windows.shape[-1])
