"""What a classifier found on test clips, whatever kind of classifier it is.

Dimensions: N training clips, M test clips, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avssl.core.errors import InputError
from avssl.evaluation.classification import confusion_matrix


@dataclass(frozen=True, eq=False)
class Scored:
    """Numbers of one classifier on one test set."""

    accuracy: float
    """Share of test clips whose top class is right, in [0, 1]."""
    per_class: dict[str | int, float]
    """Recall of each class, in [0, 1]; NaN for a class without test clips."""
    confusion: np.ndarray
    """(K, K) int64 counts: rows are true classes, columns predicted ones, in the order of ``classes``."""
    classes: tuple[str | int, ...]
    """The K classes of the training clips, sorted."""
    correct: np.ndarray
    """(M,) bool, clip by clip, for intervals and paired comparisons."""
    predicted: np.ndarray
    """(M,) int64 positions in ``classes``."""
    n_train: int
    """Training clips."""
    n_test: int
    """Test clips."""

    @property
    def mean_per_class(self) -> float:
        """Mean recall over the classes that have test clips, in [0, 1]."""
        return float(np.nanmean(list(self.per_class.values())))


def scores_of(scores: np.ndarray, truth: np.ndarray, classes: np.ndarray, n_train: int) -> dict[str, Any]:
    """The fields of :class:`Scored`.

    Args:
        scores: (M, K); the top class is the first of the highest.
        truth: (M,) positions in ``classes``.
        classes: (K,) sorted.
        n_train: Training clips.
    """
    count = len(classes)
    predicted = scores.argmax(axis=1).astype(np.int64)
    confusion = confusion_matrix(predicted, truth, count)
    truths = confusion.sum(axis=1)
    recall = [float(confusion[k, k] / truths[k]) if truths[k] else float("nan") for k in range(count)]
    names = tuple(classes.tolist())
    return {
        "accuracy": float((predicted == truth).mean()),
        "per_class": dict(zip(names, recall, strict=True)),
        "confusion": confusion,
        "classes": names,
        "correct": predicted == truth,
        "predicted": predicted,
        "n_train": n_train,
        "n_test": len(truth),
    }


def label_array(name: str, labels: Sequence[str | int] | np.ndarray) -> np.ndarray:
    """(N,) strings or numbers.

    Raises:
        ValueError: If one is empty, or the two kinds are mixed.
    """
    missing = [i for i, label in enumerate(labels) if label is None or label == "" or label != label]
    if missing:
        raise InputError(f"{name} are empty for {len(missing)} clips, first for clip {missing[0]}.")
    if len({isinstance(label, str) for label in labels}) > 1:
        raise InputError(f"{name} mix strings and numbers; use one kind.")
    return np.asarray(list(labels))


def positions(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The place of each test label in ``classes``, those of the training clips.

    Raises:
        ValueError: If training never saw one.
    """
    where = {name: k for k, name in enumerate(classes.tolist())}
    unseen = sorted({str(name) for name in labels.tolist() if name not in where})
    if unseen:
        raise InputError(
            f"test_labels hold {len(unseen)} classes that train_labels never show: {', '.join(unseen[:5])}. "
            "Drop those clips or fix the split."
        )
    return np.array([where[name] for name in labels.tolist()], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Split:
    """Checked features and labels of training and test clips, from :func:`labeled_split`."""

    train_x: np.ndarray
    """(N, ...) float64."""
    train_y: np.ndarray
    """(N,) int64 positions in ``classes``."""
    test_x: np.ndarray
    """(M, ...) float64."""
    test_y: np.ndarray
    """(M,) int64 positions in ``classes``."""
    classes: np.ndarray
    """(K,) sorted, K >= 2."""


def labeled_split(
    train_features: np.ndarray,
    train_labels: Sequence[str | int] | np.ndarray,
    test_features: np.ndarray,
    test_labels: Sequence[str | int] | np.ndarray,
    shape: str = "(clips, features)",
) -> Split:
    """What every classifier of frozen features begins with.

    Args:
        train_features: Of N clips.
        train_labels: N strings or ints, at least two different.
        test_features: Of M clips.
        test_labels: M strings or ints, each seen in training.
        shape: The dimensions that features must have, in words.

    Raises:
        ValueError: On features and labels of different length, NaN or infinite features, fewer than two
            classes, or test labels that training never saw.
    """
    train_x, train_names = labeled_features("train", train_features, train_labels, shape)
    test_x, test_names = labeled_features("test", test_features, test_labels, shape)
    if train_x.shape[-1] != test_x.shape[-1]:
        raise InputError(f"train_features have {train_x.shape[-1]} columns but test_features {test_x.shape[-1]}.")
    classes, train_y = np.unique(train_names, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"a probe needs at least two classes, the training labels are all {classes.tolist()[0]!r}.")
    return Split(train_x, train_y, test_x, positions(test_names, classes), classes)


def labeled_features(
    split: str, features: np.ndarray, labels: Sequence[str | int] | np.ndarray, shape: str = "(clips, features)"
) -> tuple[np.ndarray, np.ndarray]:
    """Features as float64 and labels as (N,).

    Raises:
        ValueError: As :func:`checked_features` and :func:`label_array`, or if their lengths differ.
    """
    x = checked_features(split, features, shape)
    if len(x) != len(labels):
        raise InputError(f"{split}_features hold {len(x)} clips but {split}_labels {len(labels)}.")
    return x, label_array(f"{split}_labels", labels)


def checked_features(split: str, features: np.ndarray, shape: str = "(clips, features)") -> np.ndarray:
    """Features as float64.

    Raises:
        ValueError: If they have another number of dimensions, hold no clips, or a value is not finite.
    """
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != shape.count(",") + 1:
        raise InputError(f"{split}_features must be {shape}, got shape {x.shape}.")
    if len(x) == 0:
        raise InputError(f"{split}_features hold no clips.")
    bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if bad.any():
        raise InputError(
            f"{split}_features hold NaN or infinity in {bad.sum()} of {len(x)} clips, first in clip {bad.argmax()}."
        )
    return x
