"""Divide the rows of a manifest: splits, folds, subsets, and labels as numbers."""

from avssl.data.splits.division import (
    Division,
    choose_divisions,
    divide,
    has_label,
    labeled_rows,
    num_unlabeled,
    split_rows,
)
from avssl.data.splits.labels import Labels, encode_labels
from avssl.data.splits.subsets import held_out_rows, label_subset

__all__ = [
    "Division",
    "Labels",
    "choose_divisions",
    "divide",
    "encode_labels",
    "has_label",
    "held_out_rows",
    "label_subset",
    "labeled_rows",
    "num_unlabeled",
    "split_rows",
]
