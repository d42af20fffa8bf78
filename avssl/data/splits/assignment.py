"""Assign recordings to splits at random, with every class in every split where it has enough of them.

Dimensions: N rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from avssl.core.draws import clip_key_int, text_key
from avssl.core.errors import InputError

SPLITS = ("train", "val", "test")
"""Names of the splits, in the order of their shares."""
SHARES = (0.8, 0.1, 0.1)
"""Default shares of the recordings of each class."""
_MOST_NEEDED = (0, 2, 1)  # training, then test, then validation


def check_shares(shares: Sequence[float]) -> None:
    """Raise InputError if the shares of training, validation and test do not sum to 1, or training has none."""
    shown = " ".join(f"{share:g}" for share in shares)
    if len(shares) != len(SPLITS) or abs(sum(shares) - 1) > 1e-6 or not shares[0] > 0 or min(shares) < 0:
        raise InputError(
            f"split ({shown}) must be the shares of train, val and test, which sum to 1, with train above 0: "
            "0.8 0.1 0.1, or 0.8 0 0.2 without validation."
        )


def assign_splits(
    recordings: np.ndarray,
    names: Sequence[str],
    labels: Sequence[str | None],
    shares: Sequence[float] = SHARES,
    *,
    seed: int = 0,
    given: Sequence[str | None] | None = None,
) -> np.ndarray:
    """Return the (N,) splits of rows, ``train``, ``val`` or ``test``.

    All rows of a recording get the same split. The recordings of a class are ordered by a hash of the seed and their
    name, and divided by the shares; one of two goes to the test, and of three or more each split with a share above 0
    gets one. Recordings whose rows have several classes count as a class of their own.

    Args:
        recordings: (N,) equal numbers for rows of one recording
            (:attr:`~avssl.data.splits.recordings.Recordings.groups`).
        names: (N,) names of the files; a recording has the first of its names.
        labels: (N,) class of each row; rows without one count as a class too.
        shares: Shares of training, validation and test.
        seed: Random seed.
        given: (N,) splits that rows have already, also of other names; None to choose one. A recording with a given
            split keeps it.

    Raises:
        InputError: If the shares do not sum to 1, or training has none.
    """
    check_shares(shares)
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, recording in enumerate(recordings.tolist()):
        rows_of[recording].append(row)
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for rows in rows_of.values():
        strata["|".join(sorted({labels[row] or "" for row in rows}))].append(rows)
    splits = np.array([None] * len(recordings) if given is None else list(given), dtype=object)
    for members in strata.values():
        known = [next((splits[row] for row in rows if splits[row]), None) for rows in members]
        wanted = dict(zip(SPLITS, _counts(len(members), shares), strict=True))
        keys = [clip_key_int(seed, 0, text_key(f"split\0{min(names[row] for row in rows)}"), 0) for rows in members]
        missing = [name for name in reversed(SPLITS) for _ in range(wanted[name] - known.count(name))]
        free = iter(missing + [SPLITS[0]] * len(members))
        for number in np.argsort(keys, kind="stable").tolist():
            split = known[number] or next(free)
            for row in members[number]:
                splits[row] = splits[row] or split
    return splits


def _counts(total: int, shares: Sequence[float]) -> list[int]:
    """Return whole numbers near ``shares`` that sum to ``total``, at least one for each share where they suffice."""
    wanted = np.asarray(shares) * total
    counts = np.floor(wanted + 1e-9).astype(int)
    largest_rest = np.argsort(counts - wanted, kind="stable")
    counts[largest_rest[: total - counts.sum()]] += 1
    needed = [split for split in _MOST_NEEDED if shares[split] > 0][:total]
    kept = np.isin(np.arange(len(shares)), needed).astype(int)
    for split in needed:
        if not counts[split]:
            counts[np.argmax(counts - kept)] -= 1
            counts[split] = 1
    return list(map(int, counts))
