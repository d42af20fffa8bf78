"""Training and test rows of one fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.data.splits import Division, label_subset
from avssl.downstream.finetuning.run import ClassifierRun


@dataclass(frozen=True, eq=False)
class FoldRows:
    """Rows of a fold and their classes."""

    train: Manifest
    train_targets: Tensor
    """(n,) int64, or (n, K) bool for multi-label rows; -1 for rows without a label."""
    test: Manifest
    test_targets: Tensor
    """(m,) int64, or (m, K) bool for multi-label rows."""
    val: Manifest
    val_targets: Tensor
    """(v,) int64, or (v, K) bool for multi-label rows."""
    unknown: Manifest
    """Rows of classes that are held out."""


def training_rows(run: ClassifierRun[Any], division: Division) -> np.ndarray:
    """Return the labeled training rows: all of them, or the balanced subset that ``labels`` asks for.

    Raises:
        ValueError: If a class has fewer rows than requested, or no multi-label row of a class is left.
    """
    settings, train = run.config.labels, division.train
    if settings.per_class is None and settings.fraction is None:
        return train
    # Rows with several labels have no one class to be balanced over.
    names = np.full(len(train), "any") if settings.multi_label else run.manifest[settings.label_column][train]
    keep = label_subset(
        run.manifest["id"][train],
        names,
        per_class=settings.per_class,
        fraction=settings.fraction,
        seed=settings.subset_seed,
    )
    kept = train[keep]
    if settings.multi_label:
        lost = np.flatnonzero(~run.labels.select(kept).any(dim=0).numpy())
        if len(lost):
            raise InputError(
                f"fold {division.name}: {len(kept)} of {len(train)} labeled rows leave no training row to "
                f"{len(lost)} classes, the first is {run.labels.classes[lost[0]]!r}. Raise labels.fraction, or "
                "change labels.subset_seed."
            )
    return kept


def fold_rows(run: ClassifierRun[Any], division: Division) -> FoldRows:
    """Return the rows and targets of a fold. Raises as :func:`training_rows`."""
    parts = (training_rows(run, division), division.test, division.val)
    train, test, val = ((run.manifest.select(rows), run.labels.select(rows)) for rows in parts)
    return FoldRows(*train, *test, *val, run.manifest.select(division.unknown))
