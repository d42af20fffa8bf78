"""Subsets of rows that are chosen by hashes of names, so that the order of the rows does not matter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from avssl.core.draws import clip_key, splitmix64, text_key, text_keys
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.data.splits.recordings import Recordings, file_names


def label_subset(
    ids: Sequence[str] | np.ndarray,
    labels: Sequence[str] | np.ndarray,
    *,
    per_class: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Choose the same number, or the same fraction, of rows of every class.

    The rows of a class are sorted by a hash of (seed, id), and the first ones are chosen. So the choice
    does not depend on the other rows, and with the same seed every larger subset contains the smaller
    ones, whether given by number or by fraction.

    Args:
        ids: (N,) unique row ids.
        labels: (N,) the one label of each row.
        per_class: Rows of each class, >= 1.
        fraction: Fraction of each class instead, in (0, 1]; rounded half up, at least one row.

    Returns:
        (N,) bool mask of the chosen rows.

    Raises:
        ValueError: If not exactly one of ``per_class`` and ``fraction`` is given, it is out of range, or
            a class has fewer than ``per_class`` rows.
    """
    if (per_class is None) == (fraction is None):
        raise InputError(f"give either per_class or fraction, got per_class {per_class} and fraction {fraction}.")
    if per_class is not None and per_class < 1:
        raise InputError(f"labels per class ({per_class}) must be at least 1.")
    if fraction is not None and not 0 < fraction <= 1:
        raise InputError(f"label fraction ({fraction}) must be in (0, 1].")
    if len(ids) != len(labels):
        raise InputError(f"every id must have one label, got {len(ids)} ids and {len(labels)} labels.")
    names, class_of_row = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    keys = clip_key(seed, 0, text_keys(map(str, ids)) ^ text_key("label subset")).numpy()
    keep = np.zeros(len(ids), dtype=bool)
    for number, name in enumerate(names):
        rows = np.flatnonzero(class_of_row == number)
        count = per_class if fraction is None else max(1, math.floor(fraction * len(rows) + 0.5))
        assert count is not None, "one of the two is given"
        if count > len(rows):
            raise InputError(f"{count} labels per class, but the class {str(name)!r} has only {len(rows)} rows.")
        keep[rows[np.argsort(keys[rows], kind="stable")[:count]]] = True
    return keep


def held_out_rows(manifest: Manifest, max_rows: int, recordings: Recordings | None = None) -> np.ndarray:
    """Return the (N,) bool mask of up to ``max_rows`` rows to keep out of training.

    Whole recordings are chosen, so that no segment, copy or link of a held-out file is trained on; one with more rows
    than still fit is skipped. The choice depends on the files' names alone, not on the seed, the order of the rows or
    the machine.

    Args:
        manifest: N rows.
        max_rows: Largest number of rows to hold out.
        recordings: Recordings of the manifest, if they are known already.
    """
    groups = (recordings or Recordings(manifest)).groups
    keys = np.full(int(groups.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    first = 0
    for names in file_names(manifest).chunks:
        of_rows = splitmix64(text_keys(f"held out\0{name}" for name in names.to_pylist())).numpy()
        np.minimum.at(keys, groups[first : first + len(names)], of_rows)
        first += len(names)
    counts = np.bincount(groups, minlength=len(keys))
    keep, left = np.zeros(len(keys), dtype=bool), max_rows
    for group in np.argsort(keys, kind="stable"):
        if left == 0:
            break
        if counts[group] <= left:
            keep[group] = True
            left -= int(counts[group])
    return keep[groups]
