"""Features and labels of training and test clips, checked.

Dimensions: N training clips, M test clips, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avssl.core.errors import InputError


@dataclass(frozen=True, eq=False)
class LabeledSplit:
    """Features and labels of training and test clips."""

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
) -> LabeledSplit:
    """Check the inputs of a classifier of frozen features.

    Args:
        train_features: Features of N clips.
        train_labels: N strings or ints, at least two different.
        test_features: Features of M clips.
        test_labels: M strings or ints that occur in training.
        shape: Required dimensions of the features, in words.

    Raises:
        ValueError: On features and labels of different length, NaN or infinite features, fewer than two
            classes, or test labels that do not occur in training.
    """
    train_x, train_names = labeled_features("train", train_features, train_labels, shape)
    test_x, test_names = labeled_features("test", test_features, test_labels, shape)
    if train_x.shape[-1] != test_x.shape[-1]:
        raise InputError(f"train_features have {train_x.shape[-1]} columns but test_features {test_x.shape[-1]}.")
    classes, train_y = np.unique(train_names, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"a probe needs at least two classes, the training labels are all {classes.tolist()[0]!r}.")
    return LabeledSplit(train_x, train_y, test_x, positions(test_names, classes), classes)


def labeled_features(
    split: str, features: np.ndarray, labels: Sequence[str | int] | np.ndarray, shape: str = "(clips, features)"
) -> tuple[np.ndarray, np.ndarray]:
    """Return features as float64 and labels as (N,).

    Raises:
        ValueError: As :func:`feature_array` and :func:`label_array`, or if their lengths differ.
    """
    x = feature_array(split, features, shape)
    if len(x) != len(labels):
        raise InputError(f"{split}_features hold {len(x)} clips but {split}_labels {len(labels)}.")
    return x, label_array(f"{split}_labels", labels)


def feature_array(split: str, features: np.ndarray, shape: str = "(clips, features)") -> np.ndarray:
    """Return features as float64.

    Raises:
        ValueError: If the number of dimensions differs, there are no clips, or a value is not finite.
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


def label_array(name: str, labels: Sequence[str | int] | np.ndarray) -> np.ndarray:
    """Return labels as (N,) strings or numbers.

    Raises:
        ValueError: If a label is empty, or strings and numbers are mixed.
    """
    missing = [i for i, label in enumerate(labels) if label is None or label == "" or label != label]
    if missing:
        raise InputError(f"{name} are empty for {len(missing)} clips, first for clip {missing[0]}.")
    if len({isinstance(label, str) for label in labels}) > 1:
        raise InputError(f"{name} mix strings and numbers; use one kind.")
    return np.asarray(list(labels))


def positions(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return (M,) int64 positions of test labels in the sorted classes of the training clips.

    Raises:
        ValueError: If a label does not occur in ``classes``.
    """
    where = {name: k for k, name in enumerate(classes.tolist())}
    unseen = sorted({str(name) for name in labels.tolist() if name not in where})
    if unseen:
        raise InputError(
            f"test_labels hold {len(unseen)} classes that are not in train_labels: {', '.join(unseen[:5])}. "
            "Drop those clips or fix the split."
        )
    return np.array([where[name] for name in labels.tolist()], dtype=np.int64)
