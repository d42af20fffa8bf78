"""Look at the headers of some rows before training, so that a wrong manifest is an error at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from avssl.config import FinetuneConfig
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.data import Failure
from avssl.data.ledger import Ledger
from avssl.data.splits import Division
from avssl.media import MediaError
from avssl.training.build import build_dataset

NUM_ROWS = 200
"""Rows of the training and of the test part that are looked at, evenly spaced; all of a smaller part."""
_ANY_SECONDS = 3600.0  # between windows that are only placed
_log = logging.getLogger(__name__)


def check_headers(config: FinetuneConfig, manifest: Manifest, divisions: Sequence[Division]) -> None:
    """Open some rows and read their headers: missing files, missing streams and too short files show there.

    Rows that cannot be read are counted in a warning; nothing is left out here.

    Args:
        config: Settings of the run.
        manifest: All rows.
        divisions: Its training and test rows.

    Raises:
        TooManyBadFiles: If more than ``data.max_bad_fraction`` of the training rows cannot be read.
        InputError: If none of the test rows can be read.
    """
    train, test = (np.unique(np.concatenate([getattr(each, part) for each in divisions])) for part in ("train", "test"))
    num_train, bad_train = _unreadable(config, manifest, train)
    num_test, bad_test = _unreadable(config, manifest, test)
    Ledger(num_train, config.data.max_bad_fraction).add(bad_train)
    if len(bad_test) == num_test:
        raise InputError(f"none of {num_test} test rows can be read: {bad_test[0].message}")
    if found := [*bad_train, *bad_test]:
        _log.warning(
            "%d of %d training rows and %d of %d test rows that were looked at cannot be read; the first: %s",
            len(bad_train),
            num_train,
            len(bad_test),
            num_test,
            found[0].message,
        )


def _unreadable(config: FinetuneConfig, manifest: Manifest, rows: np.ndarray) -> tuple[int, list[Failure]]:
    """Return how many of some rows were looked at, and those whose header has a fault."""
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(NUM_ROWS, len(rows))).astype(np.int64))]
    dataset = build_dataset(config.network(), manifest, config.classifier.inputs)
    failures = []
    for row in chosen.tolist():
        try:
            dataset.place_windows(row, _ANY_SECONDS)
        except MediaError as error:
            failures.append(Failure.of(manifest, row, error))
    return len(chosen), failures
