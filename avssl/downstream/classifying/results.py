"""Results of a classification: its tables, document and page, the evaluation on labels, and lines to print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from avssl.core.manifest import Manifest
from avssl.core.names import printable
from avssl.data.row_parts import RowParts
from avssl.downstream.classifying.evaluation import Truth
from avssl.downstream.classifying.logits import RowLogits
from avssl.downstream.classifying.page import write_prediction_page
from avssl.downstream.classifying.tables import PredictionFormat, as_document, file_table, window_table
from avssl.hub.trained_classifier import TrainedClassifier
from avssl.media.limits import MediaLimits

_SHOWN = 10  # lines of predictions in the terminal


class PredictionResults:
    """Predictions of all parts, one part in memory at a time."""

    def __init__(
        self, classifier: TrainedClassifier, manifest: Manifest, parts: RowParts, kind: PredictionFormat, truth: Truth
    ) -> None:
        parts.check_complete(len(manifest))
        self.classifier, self.manifest, self.kind, self.truth = classifier, manifest, kind, truth
        self._parts, self.failures = parts, parts.failures()
        tables = list(self.file_tables())
        self.num_files = sum(map(len, tables))
        self._head = pa.concat_tables(tables).slice(0, _SHOWN)
        self._labels = Counter(
            label for table in tables for labels in table["predicted"].to_pylist() for label in labels.split("|")
        )
        self.numbers = self._evaluate() if truth else {}

    def parts(self) -> Iterator[RowLogits]:
        """Yield the logits of each part."""
        return map(RowLogits.read, self._parts.paths())

    def file_tables(self) -> Iterator[pa.Table]:
        """Yield the table of the files of each part."""
        return (file_table(part, self.manifest, self.classifier, self.kind, self.truth) for part in self.parts())

    def window_tables(self) -> Iterator[pa.Table]:
        """Yield the table of the windows of each part."""
        return (window_table(part, self.manifest, self.classifier, self.kind) for part in self.parts())

    def document(self, every: float | None) -> dict[str, Any]:
        """Return everything for JSON."""
        about: dict[str, Any] = {"every_seconds": every, "top_k": self.kind.top_k, "threshold": self.kind.threshold}
        about |= {"evaluation": self.numbers} if self.truth else {}
        truth, failures = self.truth, self.failures
        return as_document(self.parts(), self.manifest, self.classifier, self.kind, truth, failures, about)

    def write_page(self, path: Path | str, max_files: int, notes: Sequence[str], limits: MediaLimits | None) -> None:
        """Write the page; arguments as for :func:`write_prediction_page`."""
        write_prediction_page(
            path,
            self.parts(),
            self.manifest,
            self.classifier,
            self.kind,
            self.failures,
            max_files=max_files,
            notes=notes,
            limits=limits,
        )

    def _evaluate(self) -> dict[str, Any]:
        """Return the numbers over the labeled rows whose classes are known, and counts of the others."""
        rows, logits, num_foreign, unknown_of_foreign = [], [], 0, 0
        for part in self.parts():
            keep = self.truth.is_evaluated[part.rows]
            rows.append(part.rows[keep])
            logits.append(part.logits[keep])
            foreign = part.logits[self.truth.is_foreign[part.rows]]
            num_foreign += len(foreign)
            unknown_of_foreign += int(self.classifier.is_unknown(foreign).sum()) if len(foreign) else 0
        kept = np.concatenate(rows)
        numbers = self.truth.numbers(np.concatenate(logits), kept) if len(kept) else {"n": 0}
        if num_foreign:
            numbers |= {"n_unknown_class": num_foreign, "called_unknown": unknown_of_foreign}
        if num_trained := self.truth.num_of_training(kept):
            numbers["n_of_training"] = num_trained
        return numbers

    def summary(self) -> list[str]:
        """Return lines about the files, the evaluation, and the files that cannot be read."""
        common = ", ".join(f"{count} {printable(name) or 'no class'}" for name, count in self._labels.most_common(5))
        more = ", ..." if len(self._labels) > 5 else ""
        lines = [f"{self.num_files} files: {common}{more}"]
        if self.truth and not self.numbers["n"]:
            lines.append(f"no row has a {self.truth.column} of the classifier, so nothing is evaluated")
        elif self.truth:
            shown = (f"{name} {value:.3f}" for name, value in self.numbers.items() if isinstance(value, float))
            lines.append(
                f"on {self.numbers['n']} rows with a {self.truth.column} of the classifier: {', '.join(shown)}"
            )
        if "n_of_training" in self.numbers:
            lines.append(
                f"{self.numbers['n_of_training']} of these rows are in the split that the classifier was trained on, "
                "so the numbers say little about new files: evaluate on the others with --split"
            )
        if "n_unknown_class" in self.numbers:
            lines.append(
                f"{self.numbers['n_unknown_class']} rows have a {self.truth.column} that is no class of the classifier "
                f"and are not evaluated ({self.truth.foreign_counts()}); {self.numbers['called_unknown']} of them are "
                "called unknown"
            )
        if self.failures:
            counts = Counter(failure.reason for failure in self.failures).most_common()
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
            lines.append(f"{len(self.failures)} files could not be read to the end ({reasons})")
        return lines

    def first_lines(self) -> list[str]:
        """Return the predictions of the first files, with the three most probable classes of each."""
        lines = []
        shown = range(1, 1 + min(3, self.kind.top_k, len(self.classifier.classes)))
        for row in self._head.to_pylist():
            top = (f"{printable(row[f'class_{place}'])} {row[f'probability_{place}']:.3f}" for place in shown)
            lines.append(f"{printable(row['path'])}: {printable(row['predicted']) or 'no class'}  ({', '.join(top)})")
        left = self.num_files - len(lines)
        return lines + ([f"... and {left} more"] if left else [])
