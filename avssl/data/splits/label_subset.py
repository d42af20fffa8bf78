"""A few labels of many: balanced subsets that are nested and do not depend on the order of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from avssl.core.draws import clip_key, text_key, text_keys
from avssl.core.errors import InputError


def label_subset(
    ids: Sequence[str] | np.ndarray,
    labels: Sequence[str] | np.ndarray,
    *,
    per_class: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Which rows keep their label, the same number or the same share of every class.

    A class is put in the order of a hash of (seed, id), and its first rows are taken. So the choice
    does not depend on the other rows, and of one seed every larger subset contains the smaller ones,
    also where one is given by number and the other by share.

    Args:
        ids: (N,) unique ids of the rows.
        labels: (N,) the one label of each.
        per_class: Rows of each class, >= 1.
        fraction: Share of each class instead, in (0, 1]; rounded half up, at least one row.
        seed: Another seed gives other subsets.

    Returns:
        (N,) bool, True where the label is kept.

    Raises:
        ValueError: If both or neither of ``per_class`` and ``fraction`` are given, one is out of
            range, or a class has fewer rows than ``per_class``: the text names it.
    """
    if (per_class is None) == (fraction is None):
        raise InputError(f"give either per_class or fraction, got per_class {per_class} and fraction {fraction}.")
    if per_class is not None and per_class < 1:
        raise InputError(f"labels per class ({per_class}) must be at least 1.")
    if fraction is not None and not 0 < fraction <= 1:
        raise InputError(f"label fraction ({fraction}) must be in (0, 1].")
    if len(ids) != len(labels):
        raise InputError(f"every id has one label, got {len(ids)} ids and {len(labels)} labels.")
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
