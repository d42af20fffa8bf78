"""Cross-validation on official folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from avssl.core.errors import InputError


class Fold(NamedTuple):
    """One division of the rows."""

    name: str
    """Of the fold that is tested."""
    train: np.ndarray
    """(n,) int64 rows of all other folds."""
    test: np.ndarray
    """(m,) int64 rows of this fold."""


def leave_one_fold_out(folds: Sequence[str | None] | np.ndarray) -> list[Fold]:
    """Each fold in turn as test rows, all others as training rows.

    Args:
        folds: N names; rows without one ("" or None) are an error, as leaving them out would change
            the protocol.

    Raises:
        ValueError: If a row has no fold, or there are fewer than two.
    """
    missing = [i for i, name in enumerate(folds) if name is None or name == ""]
    if missing:
        raise InputError(f"{len(missing)} of {len(folds)} rows have no fold, the first is row {missing[0]}.")
    names = np.asarray([str(name) for name in folds])
    there = sorted(set(names.tolist()), key=lambda name: (len(name), name))  # 10 after 9
    if len(there) < 2:
        raise InputError(f"cross-validation needs at least two folds, got {', '.join(there) or 'none'}.")
    return [Fold(name, np.flatnonzero(names != name), np.flatnonzero(names == name)) for name in there]
