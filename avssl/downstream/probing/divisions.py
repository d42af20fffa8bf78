"""Which labeled rows are fitted and which are scored: by a split, by several, or by folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits.folds import Fold, leave_one_fold_out
from avssl.data.splits.labeled_rows import labeled_rows
from avssl.data.splits.labels import rows_of_part


@dataclass(frozen=True)
class DivisionColumns:
    """Where a manifest says what a row is and what it is for."""

    label: str = "label"
    """The class. Rows without one, or with several joined by "|", are left out."""
    split: str = "split"
    """Parts of the data. Several columns, joined by commas, are official splits: each is run, and their mean taken."""
    train_split: str = "train"
    """Rows that are fitted."""
    test_split: str = "test"
    """Rows that are scored."""
    fold: str | None = None
    """Folds instead: each in turn is scored, with all others fitted."""


class Divided(NamedTuple):
    """What takes part in a measure."""

    rows: Manifest
    """Those with one label."""
    divisions: list[Fold]
    """Of these rows, into rows that are fitted and rows that are scored."""
    num_unlabeled: int
    """Rows of the same parts that are left out, as they have no label or several."""


def divided_rows(whole: Manifest, columns: DivisionColumns) -> Divided:
    """The rows that take part, and their divisions.

    Raises:
        ManifestError: If a column, a split or the labels are not there, or a row has no fold.
    """
    if columns.fold is not None:
        return _by_folds(whole, columns.label, columns.fold)
    names = [name.strip() for name in columns.split.split(",")]
    parts = (columns.train_split, columns.test_split)
    used = [set(labeled_rows(whole, columns.label, name, parts)["id"]) for name in names]
    asked = np.logical_or.reduce([rows_of_part(whole, name, part) for name in names for part in parts])
    rows = whole.select(np.array([value in set.union(*used) for value in whole["id"]]))
    divisions = []
    for name in names:
        train, test = (np.flatnonzero(rows[name] == part) for part in parts)
        divisions.append(Fold(name, train, test))
    return Divided(rows, divisions, int(asked.sum()) - len(rows))


def _by_folds(whole: Manifest, label: str, fold: str) -> Divided:
    names = whole[fold]
    try:
        leave_one_fold_out(names)
    except ValueError as error:
        raise ManifestError(f"column {fold!r}: {error}") from error
    rows = labeled_rows(whole, label, fold, sorted(set(names)))
    return Divided(rows, leave_one_fold_out(rows[fold]), len(whole) - len(rows))
