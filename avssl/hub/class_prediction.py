"""Predicted classes of files and of their windows.

Dimensions: N files or windows, W clips of each, K classes, k of them shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

UNKNOWN = "unknown"
"""Label of a file that is like no class of the classifier."""


@dataclass(frozen=True, eq=False)
class ClassPrediction:
    """Classes of one file or of one window of it.

    Example:
        >>> prediction = avssl.load_classifier("runs/first-finetune").predict("video.mp4")
        >>> prediction.label == prediction.classes[0], prediction.probabilities.shape
        (True, (2,))
    """

    path: Path
    """The file."""
    start_seconds: float
    """Presentation time at which the first clip starts."""
    stop_seconds: float
    """Presentation time at which the last clip ends."""
    label: str
    """The most probable class, or "unknown"; of a multi-label classifier, every class from the threshold on, joined by
    `|`, which may be none."""
    classes: list[str]
    """k names, the most probable class first, also where the label is "unknown"."""
    probabilities: np.ndarray
    """(k,) float64 probabilities of ``classes``."""
    is_unknown: bool = False
    """True if the file is like no class, by the threshold that the classifier was calibrated with."""
    windows: list[ClassPrediction] = field(default_factory=list)
    """Predictions over time, if they were requested."""

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {p:.2f}" for name, p in zip(self.classes, self.probabilities, strict=True))
        return f"{self.path}: {UNKNOWN + '; ' if self.is_unknown else ''}{shown}"


def top_classes(probabilities: np.ndarray, k: int) -> np.ndarray:
    """Return (N, k) class numbers of (N, K) probabilities, the highest first; fewer if there are fewer classes."""
    order: np.ndarray = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return order


def label_texts(
    probabilities: np.ndarray, is_unknown: np.ndarray, classes: Sequence[str], threshold: float | None
) -> list[str]:
    """Return the label of each of N files as the text of a manifest's label column.

    Args:
        probabilities: (N, K).
        is_unknown: (N,) bool.
        classes: K names.
        threshold: Lowest probability of a label of a multi-label classifier; None for one class per file.
    """
    if threshold is None:
        chosen = [classes[place] for place in probabilities.argmax(axis=1).tolist()]
    else:
        chosen = [
            "|".join(classes[place] for place in np.flatnonzero(row >= threshold).tolist()) for row in probabilities
        ]
    return [UNKNOWN if unknown else label for label, unknown in zip(chosen, is_unknown, strict=True)]
