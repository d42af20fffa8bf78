"""Labels of a manifest as class numbers.

Dimensions: N rows of the manifest, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits.division import MULTI_LABEL_OPTIONS, Division, labeled_rows, num_several


@dataclass(frozen=True, eq=False)
class Labels:
    """Classes of all rows."""

    classes: list[str]
    """K names, sorted."""
    targets: Tensor
    """(N,) int64, -1 for rows that no division uses; (N, K) bool for multi-label rows."""

    def select(self, rows: np.ndarray) -> Tensor:
        """Return the targets of some rows."""
        return self.targets[torch.from_numpy(rows)]


def encode_labels(manifest: Manifest, column: str, divisions: Sequence[Division], multi_label: bool = False) -> Labels:
    """Convert the labels of all training, validation and test rows to class numbers.

    Raises:
        ManifestError: If a division has no training row of a class, or a label holds an empty name.
    """
    texts = manifest[column]
    names: list[list[str]] = [[] for _ in range(len(manifest))]
    used = np.union1d(labeled_rows(divisions), np.concatenate([division.val for division in divisions]))
    for row in used.astype(np.int64).tolist():
        names[row] = str(texts[row]).split("|")
        if "" in names[row]:
            raise ManifestError(
                f"row {manifest.value(row, 'id')!r}: the {column} {str(texts[row])!r} contains an empty class name; "
                "remove the extra |."
            )
    classes = sorted({name for of_row in names for name in of_row})
    number = {name: i for i, name in enumerate(classes)}
    is_class = np.zeros((len(manifest), len(classes)), dtype=bool)
    for row, of_row in enumerate(names):
        is_class[row, [number[name] for name in of_row]] = True
    for division in divisions:
        missing = np.flatnonzero(~is_class[division.train].any(axis=0))
        if len(missing):
            name = classes[missing[0]]
            raise ManifestError(
                f"fold {division.name}: the class {name!r} has no training row, but "
                f"{int(is_class[division.test, missing[0]].sum())} test rows. "
                + _advice(manifest, column, divisions, multi_label)
            )
    if multi_label:
        return Labels(classes, torch.from_numpy(is_class))
    targets = np.where(is_class.any(axis=1), is_class.argmax(axis=1), -1)
    return Labels(classes, torch.from_numpy(targets.astype(np.int64)))


def _advice(manifest: Manifest, column: str, divisions: Sequence[Division], multi_label: bool) -> str:
    """Return what to do about a class without training rows."""
    several = 0 if multi_label else num_several(manifest, column, divisions)
    if several:
        return (
            f"{several} rows have several labels, joined by |, and are left out: allow them with {MULTI_LABEL_OPTIONS}."
        )
    return "Correct the label, or remove these rows from the manifest."
