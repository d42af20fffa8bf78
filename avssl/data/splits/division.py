"""Divide the rows of a manifest into training and test rows, by split columns or by folds.

Dimensions: N rows of the manifest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits.recordings import Recordings

_LOGGER = logging.getLogger(__name__)


MULTI_LABEL_OPTIONS = "--labels.multi-label (avssl finetune) or --multi-label (avssl probe)"
"""Options that allow several labels per row."""
_TEST_SPLIT = "choose the test rows with --labels.test-split {0} (avssl finetune) or --test-split {0} (avssl probe)."


def _no_rows() -> np.ndarray:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Division:
    """Training and test rows; all arrays are sorted int64 row numbers of one manifest."""

    name: str
    """Name of the split column, or the test fold's value of the fold column."""
    train: np.ndarray
    """Training rows with a usable label."""
    test: np.ndarray
    """Test rows with a usable label."""
    unlabeled_train: np.ndarray
    """Training rows without a usable label."""
    unlabeled_test: np.ndarray
    """Test rows without a usable label."""
    repeated: np.ndarray
    """Rows of the training split that are in none of these parts, as a test row shows the same time of the same
    recording (:class:`~avssl.data.splits.recordings.Recordings`)."""
    val: np.ndarray = field(default_factory=_no_rows)
    """Validation rows with a usable label of classes that are trained on, which show nothing of the training and test
    rows."""
    unknown: np.ndarray = field(default_factory=_no_rows)
    """Rows of unknown classes, which are in no other part."""

    @property
    def all_train(self) -> np.ndarray:
        """All training rows, with a usable label or not."""
        return np.union1d(self.train, self.unlabeled_train)


def divide(
    manifest: Manifest,
    label_column: str,
    *,
    split_columns: Sequence[str] = ("split",),
    train_split: str | None = "train",
    test_split: str = "test",
    fold_column: str | None = None,
    multi_label: bool = False,
    val_split: str | None = None,
    unknown_classes: Sequence[str] = (),
) -> list[Division]:
    """Divide the rows by each split column in turn, or cross-validate over the values of a fold column.

    Training rows that repeat a test row, of the same file, a copy of it or a link to it, are left out of training and
    counted in a warning, and so are validation rows of classes without a training row.

    Args:
        label_column: Column of the labels.
        split_columns: Columns that name the split of each row; each gives one division.
        train_split: Name of the training split; None leaves the training part empty.
        test_split: Name of the test split.
        fold_column: Used instead of the split columns: each of its values is the test part once, and the
            other rows are the training part.
        multi_label: Rows with several labels, joined by ``|``, are usable too.
        val_split: Name of the validation split, which may have no rows. There is no validation part for None, for the
            name of another split, and with folds.
        unknown_classes: Classes whose rows are neither trained on nor tested, and make up the part ``unknown``.

    Raises:
        ManifestError: If a column or a split is missing, both splits have one name, a row has no fold,
            there are fewer than two folds, a part has no row with a usable label, or an unknown class has no row.
    """
    labeled = has_label(manifest, label_column, multi_label)
    unknown = _rows_of_classes(manifest, label_column, unknown_classes)
    if fold_column:
        parts = _fold_parts(manifest, fold_column)
    else:
        parts = _split_parts(manifest, split_columns, train_split, test_split)
    divisions = []
    recordings = Recordings(manifest) if fold_column or train_split is not None else None
    for name, where, train, test in parts:
        train, test = train & ~unknown, test & ~unknown
        repeated = _no_rows()
        if recordings is not None:
            repeated = recordings.repeated(np.flatnonzero(train), np.flatnonzero(test))
            train[repeated] = False
        for part, rows in (("training", train), ("test", test))[train_split is None :]:
            if not (rows & labeled).any():
                usable = "a label" if multi_label else "exactly one label"
                raise ManifestError(
                    f"{where}: none of the {rows.sum()} {part} rows has {usable} in the column {label_column!r}."
                    + (_repeats(repeated) if part == "training" else "")
                    + _advice(manifest, label_column, rows, split_columns if part == "test" else (), labeled)
                )
        masks = [train & labeled, test & labeled, train & ~labeled, test & ~labeled]
        train_rows, test_rows, *unlabeled = map(np.flatnonzero, masks)
        val = _no_rows()
        if not fold_column and val_split not in (None, train_split, test_split):
            val = np.flatnonzero(_named(manifest, name, str(val_split)) & labeled & ~unknown)
            val = _of_trained_classes(manifest, label_column, val, train_rows, name)
        others = [_unseen(rows, train | test, recordings) for rows in (val, np.flatnonzero(unknown))]
        divisions.append(Division(name, train_rows, test_rows, unlabeled[0], unlabeled[1], repeated, *others))
    if num_repeated := len(np.unique(np.concatenate([each.repeated for each in divisions]))):
        _LOGGER.warning(
            "%d training rows are left out: test rows show the same time of the same files, or of copies of or links "
            "to them. The first is %s.",
            num_repeated,
            manifest.value(int(next(each.repeated[0] for each in divisions if len(each.repeated))), "id"),
        )
    return divisions


def _rows_of_classes(manifest: Manifest, column: str, classes: Sequence[str]) -> np.ndarray:
    """Return the (N,) bool mask of the rows of some classes; raise ManifestError if one has none."""
    labels = manifest[column]
    existing = {str(label) for label in labels if label}
    if missing := [name for name in classes if name not in existing]:
        raise ManifestError(
            f"unknown_classes: no row has the {column} {missing[0]!r}; there are {', '.join(sorted(existing)[:20])}."
        )
    return np.isin(labels.astype(str), list(classes)) if len(classes) else np.zeros(len(labels), dtype=bool)


def _of_trained_classes(
    manifest: Manifest, column: str, val: np.ndarray, train: np.ndarray, division: str
) -> np.ndarray:
    """Return the validation rows all of whose classes have a training row; the others are counted in a warning."""
    labels = manifest[column].astype(str)
    trained = {name for text in labels[train] for name in text.split("|")}
    others = [sorted(set(text.split("|")) - trained) for text in labels[val]]
    is_kept = np.array([not names for names in others], dtype=bool)
    if not is_kept.all():
        _LOGGER.warning(
            "fold %s: %d validation rows are left out, as their classes have no training row: %s",
            division,
            int((~is_kept).sum()),
            ", ".join(sorted({name for names in others for name in names})[:5]),
        )
    return val[is_kept]


def _unseen(rows: np.ndarray, seen: np.ndarray, recordings: Recordings | None) -> np.ndarray:
    """Return those of some rows that show nothing of the seen ones."""
    if recordings is None or not len(rows):
        return rows
    return np.setdiff1d(rows, recordings.repeated(rows, np.flatnonzero(seen)))


def _split_parts(
    manifest: Manifest, columns: Sequence[str], train_split: str | None, test_split: str
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Yield name, location for errors, and (N,) bool masks of the training and the test part."""
    if train_split == test_split:
        raise ManifestError(f"the training and the test split must differ, both are {test_split!r}.")
    for column in columns:
        if train_split is None:
            train = np.zeros(len(manifest), dtype=bool)
        else:
            train = split_rows(manifest, column, train_split)
        try:
            test = split_rows(manifest, column, test_split)
        except ManifestError as error:
            names = {str(name) for name in manifest[column] if name} - {str(train_split)}
            raise ManifestError(f"{error}{_other_test_splits(names)}") from error
        yield column, f"column {column!r}", train, test


def _other_test_splits(names: set[str]) -> str:
    """Return which split may be tested on instead, and how; nothing if there is none."""
    return f" To test on another split, {_TEST_SPLIT.format(min(names))}" if names else ""


def _fold_parts(manifest: Manifest, column: str) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    values = manifest[column]
    missing = [row for row, value in enumerate(values) if value is None or value == ""]
    if missing:  # leaving these rows out would change the protocol
        first = manifest.value(missing[0], "id")
        raise ManifestError(
            f"column {column!r}: {len(missing)} of {len(values)} rows have no fold, the first is {first!r}."
        )
    fold_of_row = values.astype(str)
    folds = sorted(set(fold_of_row.tolist()), key=lambda fold: (len(fold), fold))  # 10 after 9
    if len(folds) < 2:
        raise ManifestError(
            f"column {column!r}: cross-validation needs at least two folds, got {', '.join(folds) or 'none'}."
        )
    for fold in folds:
        yield fold, f"{column} {fold!r}", fold_of_row != fold, fold_of_row == fold


def has_label(manifest: Manifest, column: str, multi_label: bool = False) -> np.ndarray:
    """Return the (N,) bool mask of the rows with exactly one label; with ``multi_label``, with one or more.

    Raises:
        ManifestError: If the column is missing.
    """
    return np.array([bool(text) and (multi_label or "|" not in str(text)) for text in manifest[column]], dtype=bool)


def split_rows(manifest: Manifest, split_column: str, split: str) -> np.ndarray:
    """Return the (N,) bool mask of the rows of a split.

    Raises:
        ManifestError: If the column is missing, or no row has this split.
    """
    rows = _named(manifest, split_column, split)
    if not rows.any():
        existing = ", ".join(sorted({str(value) for value in manifest[split_column] if value})) or "none"
        raise ManifestError(f"no row has {split_column} {split!r}; the manifest has {existing}.")
    return rows


def _named(manifest: Manifest, split_column: str, split: str) -> np.ndarray:
    if split_column not in manifest:
        return manifest[split_column] == split  # raises the error that names the columns
    return np.asarray(pc.equal(manifest.table[split_column].cast(pa.string()), split).fill_null(False).to_numpy())


def labeled_rows(divisions: Sequence[Division]) -> np.ndarray:
    """Return the sorted rows that are in the training or test part of any division."""
    return np.unique(np.concatenate([rows for each in divisions for rows in (each.train, each.test)]))


def has_several(texts: np.ndarray) -> np.ndarray:
    """Return the (N,) bool mask of the labels that name several classes."""
    return np.array([bool(text) and "|" in str(text) for text in texts], dtype=bool)


def num_several(manifest: Manifest, column: str, divisions: Sequence[Division]) -> int:
    """Count the rows with several labels that the divisions leave out."""
    rows = [rows for each in divisions for rows in (each.unlabeled_train, each.unlabeled_test)]
    return int(has_several(manifest[column])[np.unique(np.concatenate(rows))].sum())


def _repeats(repeated: np.ndarray) -> str:
    """Return how many training rows are left out, as they repeat test rows."""
    return f" {len(repeated)} others are left out, as they repeat test rows: the same files, or copies." * bool(
        len(repeated)
    )


def _advice(manifest: Manifest, column: str, rows: np.ndarray, splits: Sequence[str], labeled: np.ndarray) -> str:
    """Return what to do about rows without a usable label."""
    if several := int((has_several(manifest[column]) & rows).sum()):
        return f" {several} have several, joined by |: allow them with {MULTI_LABEL_OPTIONS}."
    for split in (manifest[name] for name in splits if name in manifest):
        if others := sorted({str(name) for name in split[labeled] if name} - {"train"}):
            return f" The splits with labels are {', '.join(others)}: {_TEST_SPLIT.format(others[0])}"
    return ""


def num_unlabeled(divisions: Sequence[Division]) -> int:
    """Count the rows that the divisions leave out because they have no usable label."""
    rows = [rows for each in divisions for rows in (each.unlabeled_train, each.unlabeled_test)]
    return len(np.unique(np.concatenate(rows)))


def choose_divisions(divisions: Sequence[Division], name: str | None) -> list[Division]:
    """Return the division of a name, or all of them if it is None; raise ManifestError if no division has this name."""
    chosen = [each for each in divisions if name in (None, each.name)]
    if not chosen:
        raise ManifestError(f"no fold {name!r}; there are {', '.join(each.name for each in divisions)}.")
    return chosen
