"""What a classifier said of some clips, checked.

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
"""How far probabilities of a clip may be from 1 in sum: they may come in half precision."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Probabilities beside the truth.

    Raises:
        ValueError: If shapes do not fit, a class is not named or named twice, an id comes twice, a
            score is no probability, or a label no class.
    """

    classes: Sequence[str]
    """K names."""
    scores: np.ndarray
    """(N, K) probabilities; each clip's sum to 1 unless ``multi_label``."""
    labels: np.ndarray
    """(N,) int64 classes, or (N, K) bool where ``multi_label``."""
    ids: Sequence[str]
    """N ids of manifest rows."""
    multi_label: bool = False
    """Whether a clip may have several classes, or none."""

    def __post_init__(self) -> None:
        count, num_classes = len(self.ids), len(self.classes)
        if not all(self.classes) or len(set(self.classes)) != num_classes:
            raise InputError("classes must be different names, none of them empty.")
        if len(set(self.ids)) != count or count == 0:
            raise InputError(f"ids must be different and at least one, got {len(set(self.ids))} among {count}.")
        if self.scores.shape != (count, num_classes):
            raise InputError(
                f"scores must be ({count}, {num_classes}), a row an id and a column a class, got {self.scores.shape}."
            )
        self._check_probabilities()
        self._check_labels()

    def _check_probabilities(self) -> None:
        # NaN is neither.
        fits = np.all((self.scores >= 0) & (self.scores <= 1 + _SUM_ERROR), axis=1)
        if not self.multi_label:
            fits &= np.abs(self.scores.sum(axis=1) - 1) <= _SUM_ERROR
        if not fits.all():
            kind = "in [0, 1]" if self.multi_label else "in [0, 1] that sum to 1"
            first = self.ids[int(fits.argmin())]
            raise InputError(
                f"scores must be probabilities {kind}; {(~fits).sum()} of {len(self.ids)} rows are not, first that of "
                f"{first!r}. Logits become such by softmax, or sigmoid for multi_label."
            )

    def _check_labels(self) -> None:
        labels, (count, num_classes) = self.labels, self.scores.shape
        if self.multi_label:
            fits = labels.shape == (count, num_classes) and labels.dtype == bool
            expected = f"({count}, {num_classes}) bool"
        else:
            fits = labels.shape == (count,) and labels.dtype.kind in "iu" and bool((labels >= 0).all())
            fits = fits and bool((labels < num_classes).all())
            expected = f"({count},) whole numbers in 0 ... {num_classes - 1}"
        if not fits:
            raise InputError(f"labels must be {expected}, got shape {labels.shape} of {labels.dtype}.")

    @property
    def predicted(self) -> np.ndarray:
        """(N,) the class of the highest score."""
        return self.scores.argmax(axis=1)

    def losses(self) -> np.ndarray:
        """(N,) cross-entropy in nats: of the true class, or binary and mean over the classes where ``multi_label``."""
        scores = np.clip(self.scores, 1e-12, 1 - 1e-12)
        if self.multi_label:
            return -np.where(self.labels, np.log(scores), np.log1p(-scores)).mean(axis=1)
        return -np.log(np.take_along_axis(scores, self.labels[:, None], axis=1)[:, 0])


def scored(
    classes: Sequence[str], scores: ArrayLike, labels: ArrayLike, ids: Sequence[str], multi_label: bool
) -> Scored:
    """From arrays of any kind."""
    names, clips = [str(name) for name in classes], [str(name) for name in ids]
    return Scored(names, np.asarray(scores, dtype=np.float64), np.asarray(labels), clips, multi_label)


def rows_of(ids: Sequence[str], manifest: Manifest) -> np.ndarray:
    """(N,) int64 rows of ids.

    Raises:
        ManifestError: If one is not there.
    """
    place = {name: row for row, name in enumerate(manifest.table["id"].to_pylist())}
    missing = [name for name in ids if name not in place]
    if missing:
        raise ManifestError(f"{len(missing)} scored clips are not in the manifest, the first is {missing[0]!r}.")
    return np.array([place[name] for name in ids], dtype=np.int64)
