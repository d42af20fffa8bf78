"""The rows of a manifest that a classifier can be fitted and scored on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avssl.manifest import Manifest, ManifestError


def labelled_rows(manifest: Manifest, label_column: str, split_column: str, splits: Sequence[str]) -> Manifest:
    """The rows of the splits that carry one label.

    Raises:
        ManifestError: If a column or a split is not there, or no row of a split has exactly one label.
    """
    labels, split = manifest[label_column], manifest[split_column]
    there = sorted({str(name) for name in split if name})
    for name in splits:
        if name not in there:
            raise ManifestError(f"no row has {split_column} {name!r}; the manifest has {', '.join(there) or 'none'}.")
    single = np.array([bool(label) and label == label and "|" not in str(label) for label in labels])
    keep = single & np.isin(split.astype(str), list(splits))
    for name in splits:
        if not (keep & (split == name)).any():
            raise ManifestError(f"no row of the split {name!r} has exactly one {label_column}.")
    return manifest.select(keep)
