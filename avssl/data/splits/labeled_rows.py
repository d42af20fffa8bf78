"""The rows of a manifest that a classifier can be fitted and scored on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits.labels import has_label, rows_of_part


def labeled_rows(manifest: Manifest, label_column: str, split_column: str, splits: Sequence[str]) -> Manifest:
    """The rows of the splits that carry one label.

    Raises:
        ManifestError: If a column or a split is not there, a split is named twice, or no row of one has
            exactly one label.
    """
    if len(set(splits)) < len(splits):
        raise ManifestError(f"splits ({', '.join(splits)}) must differ, or rows are scored that were fitted.")
    single = has_label(manifest, label_column)
    parts = [rows_of_part(manifest, split_column, name) for name in splits]
    for name, part in zip(splits, parts, strict=True):
        if not (single & part).any():
            raise ManifestError(f"no row of the split {name!r} has exactly one {label_column}.")
    return manifest.select(single & np.logical_or.reduce(parts))


def num_unlabeled(manifest: Manifest, label_column: str, split_column: str, splits: Sequence[str]) -> int:
    """How many rows of the splits :func:`labeled_rows` leaves out, as they have no label or several."""
    of_splits = np.logical_or.reduce([rows_of_part(manifest, split_column, name) for name in splits])
    return int((of_splits & ~has_label(manifest, label_column)).sum())
