"""Labels of a manifest beside the predictions for its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from avssl.core.manifest import Manifest
from avssl.core.names import printable
from avssl.data.splits import Recordings
from avssl.evaluation.intervals import mean_interval
from avssl.evaluation.video_scores import baseline_numbers, video_numbers, video_probabilities
from avssl.hub.trained_classifier import TrainedClassifier

Outcome = Literal["yes", "no", "unknown class", ""]
"""Correct or not, with a label that the classifier does not have, or without a usable label."""


class Truth:
    """Labels of the rows of a manifest, where it has any.

    Rows with a label that the classifier does not have are told apart, and so are rows with several labels if the
    classifier has one class per file.
    """

    def __init__(self, manifest: Manifest, classifier: TrainedClassifier) -> None:
        labels, size = classifier.config.labels, len(manifest)
        column = labels.label_column
        self.column, self._manifest = column, manifest
        self.texts: list[str] = [str(text or "") for text in manifest[column]] if column in manifest else [""] * size
        split = labels.split_column[0] if len(labels.split_column) == 1 and not labels.fold_column else ""
        texts = manifest[split] if split in manifest else [None] * size
        self._is_of_training = np.array([str(text) == labels.train_split for text in texts], dtype=bool)
        self.is_multi_label = labels.multi_label
        self.classes, self._average = classifier.classes, classifier.config.test.average
        known = set(classifier.classes)
        self._names = [tuple(text.split("|")) if text else () for text in self.texts]
        self.is_foreign = np.array([any(name not in known for name in names) for names in self._names], dtype=bool)
        self.is_evaluated = np.array(
            [len(names) == 1 or (self.is_multi_label and len(names) > 1) for names in self._names], dtype=bool
        )
        self.is_evaluated &= ~self.is_foreign

    def __bool__(self) -> bool:
        return any(self.texts)

    def outcome(self, row: int, label: str) -> Outcome:
        """Return whether the predicted label of a row is its true one."""
        if self.is_foreign[row]:
            return "unknown class"
        if not self.is_evaluated[row]:
            return ""
        return "yes" if set(label.split("|")) == set(self._names[row]) else "no"

    def numbers(self, logits: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        """Return the numbers of the test of fine-tuning over rows that :attr:`is_evaluated`, with their baselines.

        Args:
            logits: (N, W, K).
            rows: (N,) positions in the manifest.
        """
        number = {name: place for place, name in enumerate(self.classes)}
        is_class = np.zeros((len(rows), len(self.classes)), dtype=bool)
        for place, row in enumerate(rows.tolist()):
            is_class[place, [number[name] for name in self._names[row]]] = True
        targets = is_class if self.is_multi_label else is_class.argmax(axis=1)
        found: dict[str, Any] = dict(video_numbers(logits, targets, self._average))
        if not self.is_multi_label:
            hits = video_probabilities(logits, self._average).argmax(axis=1) == targets
            found["top1_interval"] = list(mean_interval(hits, Recordings(self._manifest.select(rows)).groups))
        return {"n": len(rows)} | found | baseline_numbers(targets, len(self.classes))

    def num_of_training(self, rows: np.ndarray) -> int:
        """Return how many rows are in the training split by the classifier's split column, if it has exactly one."""
        return int(self._is_of_training[rows].sum())

    def foreign_counts(self) -> str:
        """Return the labels that are no class, most frequent first, such as ``"3 tall, 1 flat"``; at most five."""
        names: Iterable[str] = (name for names in self._names for name in names if name not in set(self.classes))
        counts = Counter(names).most_common()
        shown = ", ".join(f"{count} {printable(name)}" for name, count in counts[:5])
        return shown + (", ..." if len(counts) > 5 else "")
