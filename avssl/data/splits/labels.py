"""Labels of a manifest as numbers, and which rows are learned from and tested on.

Dimensions: N rows of the manifest, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits.folds import leave_one_fold_out


@dataclass(frozen=True, eq=False)
class Fold:
    """One way to divide the rows."""

    name: str
    """The split's column, or the value of the fold column that is tested on."""
    pool: np.ndarray
    """int64 rows of the training part, without a label too."""
    train: np.ndarray
    """int64 rows that are learned from: those of the pool with a label."""
    test: np.ndarray
    """int64 rows with a label that are tested on."""
    num_unlabeled_test: int
    """Rows of the test part that are left out, as they have no usable label."""

    @property
    def num_unlabeled_train(self) -> int:
        """Rows of the training part without a usable label."""
        return len(self.pool) - len(self.train)


@dataclass(frozen=True, eq=False)
class Labels:
    """The classes of rows."""

    classes: list[str]
    """K names, sorted."""
    targets: Tensor
    """(N,) int64, -1 where there is no one label; or (N, K) bool."""

    def of(self, rows: np.ndarray) -> Tensor:
        """Targets of some rows."""
        return self.targets[torch.from_numpy(rows)]


def has_label(manifest: Manifest, column: str, multi_label: bool = False) -> np.ndarray:
    """(N,) bool: rows with exactly one label, or with ``multi_label`` with one or more.

    Raises:
        ManifestError: If there is no such column.
    """
    return np.array([bool(text) and (multi_label or "|" not in str(text)) for text in manifest[column]], dtype=bool)


def find_folds(
    manifest: Manifest,
    labeled: np.ndarray,
    *,
    split_columns: Sequence[str] = ("split",),
    train_split: str = "train",
    test_split: str = "test",
    fold_column: str = "",
) -> list[Fold]:
    """The ways to divide the rows, in order: one a column, or cross-validation over one column's values.

    Args:
        manifest: All rows.
        labeled: (N,) bool from :func:`has_label`.
        split_columns: Each says of every row whether it is learned from, tested on, or neither.
        train_split: What they say of rows that are learned from.
        test_split: And of rows that are tested on.
        fold_column: In place of them: each of its values is tested on, and the other rows are learned from.

    Raises:
        ManifestError: If a column or a part is missing, or a part has no labeled row.
        ValueError: If a row is in no fold, or there is only one fold to cross-validate.
    """
    if fold_column:
        rows = np.arange(len(manifest))
        divided = leave_one_fold_out(manifest[fold_column])
        parts = [(name, np.isin(rows, train), np.isin(rows, test)) for name, train, test in divided]
    else:
        parts = [
            (column, rows_of_part(manifest, column, train_split), rows_of_part(manifest, column, test_split))
            for column in split_columns
        ]
    folds = []
    for name, train, test in parts:
        for what, part in (("learn from", train), ("test on", test)):
            if not (part & labeled).any():
                raise ManifestError(f"fold {name}: none of the {part.sum()} rows to {what} has a usable label.")
        pool, learned, tested = (np.flatnonzero(mask) for mask in (train, train & labeled, test & labeled))
        folds.append(Fold(name, pool, learned, tested, int((test & ~labeled).sum())))
    return folds


def rows_of_part(manifest: Manifest, split_column: str, name: str) -> np.ndarray:
    """(N,) bool: the rows of a split.

    Raises:
        ManifestError: If the column is missing, or no row has this split.
    """
    values = manifest[split_column]
    rows = np.array([str(value) == name for value in values], dtype=bool)
    if not rows.any():
        there = ", ".join(sorted({str(value) for value in values if value})) or "none"
        raise ManifestError(f"no row has {split_column} {name!r}; the manifest has {there}.")
    return rows


def choose_fold(folds: Sequence[Fold], name: str | None) -> list[Fold]:
    """The fold of a name, or all of them.

    Raises:
        ManifestError: If there is none of this name.
    """
    chosen = [fold for fold in folds if name in (None, fold.name)]
    if not chosen:
        raise ManifestError(f"no fold {name!r}; there are {', '.join(fold.name for fold in folds)}.")
    return chosen


def number_labels(
    manifest: Manifest, column: str, labeled: np.ndarray, folds: Sequence[Fold], multi_label: bool = False
) -> Labels:
    """Classes are the labels of all rows that are learned from or tested on in any fold.

    Raises:
        ManifestError: If a fold has no training row of a class; the text says how many test rows have it.
    """
    used = np.zeros(len(manifest), dtype=bool)
    for fold in folds:
        used[fold.train] = used[fold.test] = True
    names = [str(text).split("|") if has else [] for text, has in zip(manifest[column], used & labeled, strict=True)]
    for row, of_row in enumerate(names):
        if "" in of_row:
            text, id_ = str(manifest[column][row]), manifest.value(row, "id")
            raise ManifestError(f"row {id_!r}: the {column} {text!r} names an empty class; take the extra | away.")
    classes = sorted({name for of_row in names for name in of_row})
    number = {name: place for place, name in enumerate(classes)}
    counts = np.zeros((len(manifest), len(classes)), dtype=bool)
    for row, of_row in enumerate(names):
        counts[row, [number[name] for name in of_row]] = True
    for fold in folds:
        missing = np.flatnonzero(~counts[fold.train].any(axis=0))
        if len(missing):
            name, tested = classes[missing[0]], int(counts[fold.test, missing[0]].sum())
            raise ManifestError(
                f"fold {fold.name}: the class {name!r} has no training row, and {tested} test rows have it. "
                "Correct the label, or leave these rows out of the manifest."
            )
    if multi_label:
        return Labels(classes, torch.from_numpy(counts))
    targets = np.where(counts.any(axis=1), counts.argmax(axis=1), -1)
    return Labels(classes, torch.from_numpy(targets.astype(np.int64)))
