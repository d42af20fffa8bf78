"""Scores and labels of clips, validated.

Dimensions: N clips, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, ManifestError

_SUM_ERROR = 1e-3
"""Tolerance of the sum of a clip's probabilities, which may be half precision."""


@dataclass(frozen=True, eq=False)
class ClipScores:
    """Predicted probabilities and true classes.

    Raises:
        ValueError: If shapes do not match, class names or ids are empty or repeated, a score is not a
            probability, or a label is not a class.
    """

    classes: Sequence[str]
    """K names."""
    scores: np.ndarray
    """(N, K) probabilities; rows sum to 1 unless ``multi_label``."""
    labels: np.ndarray
    """(N,) int64 classes, or (N, K) bool for ``multi_label``."""
    ids: Sequence[str]
    """N ids of manifest rows."""
    multi_label: bool = False
    """True if a clip may have several classes, or none."""

    @classmethod
    def from_arrays(
        cls, classes: Sequence[str], scores: ArrayLike, labels: ArrayLike, ids: Sequence[str], multi_label: bool
    ) -> ClipScores:
        """Convert arrays of any type."""
        names, clips = [str(name) for name in classes], [str(name) for name in ids]
        return cls(names, np.asarray(scores, dtype=np.float64), np.asarray(labels), clips, multi_label)

    def __post_init__(self) -> None:
        count, num_classes = len(self.ids), len(self.classes)
        if not all(self.classes) or len(set(self.classes)) != num_classes:
            raise InputError("class names must be different and not empty.")
        if len(set(self.ids)) != count or count == 0:
            raise InputError(
                f"ids must be different, and at least one, got {len(set(self.ids))} different among {count}."
            )
        if self.scores.shape != (count, num_classes):
            raise InputError(
                f"scores must be ({count}, {num_classes}), a row per id, a column per class, got {self.scores.shape}."
            )
        self._check_probabilities()
        self._check_labels()

    def _check_probabilities(self) -> None:
        # NaN fails both comparisons.
        fits = np.all((self.scores >= 0) & (self.scores <= 1 + _SUM_ERROR), axis=1)
        if not self.multi_label:
            fits &= np.abs(self.scores.sum(axis=1) - 1) <= _SUM_ERROR
        if not fits.all():
            kind = "in [0, 1]" if self.multi_label else "in [0, 1] that sum to 1"
            first = self.ids[int(fits.argmin())]
            raise InputError(
                f"scores must be probabilities {kind}; {(~fits).sum()} of {len(self.ids)} rows are not, the first is "
                f"{first!r}. Convert logits with softmax, or with sigmoid for multi_label."
            )

    def _check_labels(self) -> None:
        labels, (count, num_classes) = self.labels, self.scores.shape
        if self.multi_label:
            fits = labels.shape == (count, num_classes) and labels.dtype == bool
            expected = f"({count}, {num_classes}) bool"
        else:
            fits = labels.shape == (count,) and labels.dtype.kind in "iu" and bool((labels >= 0).all())
            fits = fits and bool((labels < num_classes).all())
            expected = f"({count},) integers in 0 ... {num_classes - 1}"
        if not fits:
            raise InputError(f"labels must be {expected}, got shape {labels.shape} of {labels.dtype}.")

    @property
    def predicted(self) -> np.ndarray:
        """(N,) classes with the highest score."""
        return self.scores.argmax(axis=1)

    def losses(self) -> np.ndarray:
        """Return (N,) cross-entropies in nats; for ``multi_label``, binary ones averaged over the classes."""
        scores = np.clip(self.scores, 1e-12, 1 - 1e-12)
        if self.multi_label:
            return -np.where(self.labels, np.log(scores), np.log1p(-scores)).mean(axis=1)
        return -np.log(np.take_along_axis(scores, self.labels[:, None], axis=1)[:, 0])


def find_rows(manifest: Manifest, ids: Sequence[str]) -> np.ndarray:
    """Return the (N,) int64 rows of ids; raise ManifestError if an id is not in the manifest."""
    row_of_id = {name: row for row, name in enumerate(manifest.table["id"].to_pylist())}
    missing = [name for name in ids if name not in row_of_id]
    if missing:
        raise ManifestError(f"{len(missing)} scored clips are not in the manifest, the first is {missing[0]!r}.")
    return np.array([row_of_id[name] for name in ids], dtype=np.int64)
