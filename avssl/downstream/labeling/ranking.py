"""Rows without a label, in the order in which an annotator should see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits.labels import has_label
from avssl.downstream.labeling.reading import MODALITIES, Reading, read_rows
from avssl.evaluation import Evidence, Selection, check_budget, check_strategy, gather_evidence, select_clips
from avssl.features.extract import Pretrained

_SPAN = ("start_seconds", "stop_seconds")


@dataclass(frozen=True, eq=False)
class Ranking:
    """What to label next, and out of what it was chosen."""

    table: pa.Table
    """One line a row, best first: rank, id, path, start_seconds, stop_seconds, score in the strategy's unit, why."""
    num_rows: int
    """Rows that could be read, without the test split."""
    num_labeled: int
    """Those with a label."""
    num_classes: int
    """Classes that the classifiers know."""
    num_test_rows: int
    """Left out as test rows."""
    num_failures: int
    """Left out because they could not be read."""


def rank_rows(
    pretrained: Pretrained,
    manifest: Manifest,
    strategy: str,
    budget: int,
    *,
    label_column: str = "label",
    split_column: str = "split",
    test_split: str = "test",
    seed: int = 0,
    reading: Reading | None = None,
) -> Ranking:
    """Ranks the rows without a label.

    Args:
        pretrained: Makes the features.
        manifest: All rows.
        strategy: One of :data:`avssl.evaluation.STRATEGIES`.
        budget: Rows to name.
        label_column: Where labels are; rows with several, joined by ``|``, count as labeled but do
            not train the classifiers.
        split_column: Where splits are, if anywhere.
        test_split: Rows that are neither ranked nor learned from.
        seed: Of draws, clusters, and the order among equals.
        reading: How rows become features.

    Raises:
        ManifestError: If every row has a label, or a named column is missing.
        ValueError: If the budget exceeds the rows without a label, or the strategy needs labels.
    """
    kept = manifest.select(manifest[split_column] != test_split) if split_column in manifest else manifest
    reading = reading or Reading()
    labels, labeled, single = _labels(kept, label_column)
    if labeled.all():
        raise ManifestError(f"every row has its {label_column!r} already; --simulate compares strategies on such rows.")
    check_strategy(strategy, MODALITIES[reading.modality], len(np.unique(labels[single].astype(str))))
    check_budget(labeled, budget)
    found = read_rows(pretrained, kept, [strategy], reading)
    labels, labeled, single = _labels(found.rows, label_column)
    evidence = gather_evidence(found.features, labels, single, found.embeddings)
    selection = select_clips(strategy, evidence, labeled, budget, seed)
    return Ranking(
        _table(found.rows, selection, _reasons(strategy, evidence, selection)),
        num_rows=len(found.rows),
        num_labeled=int(labeled.sum()),
        num_classes=len(evidence.classes),
        num_test_rows=len(manifest) - len(kept),
        num_failures=found.num_failures,
    )


def _labels(manifest: Manifest, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) labels, (N,) bool where there is one or more, and where there is exactly one.

    A manifest need have no column ``label``, but one that was asked for by another name.
    """
    if column == "label" and column not in manifest:
        nowhere = np.zeros(len(manifest), dtype=bool)
        return np.full(len(manifest), "", dtype=object), nowhere, nowhere
    return manifest[column], has_label(manifest, column, multi_label=True), has_label(manifest, column)


def _table(rows: Manifest, selection: Selection, reasons: Sequence[str]) -> pa.Table:
    index = selection.index.tolist()
    columns: dict[str, pa.Array] = {"rank": pa.array(range(1, len(index) + 1), pa.int64())}
    for name, kind in {"id": pa.string(), "path": pa.string(), **dict.fromkeys(_SPAN, pa.float64())}.items():
        columns[name] = pa.array([rows.value(row, name) for row in index], kind)
    columns["score"] = pa.array(selection.score.round(6), pa.float64())
    columns["why"] = pa.array(reasons, pa.string())
    return pa.table(columns)


def _reasons(strategy: str, evidence: Evidence, selection: Selection) -> list[str]:
    """A line for the annotator about every chosen clip."""
    chosen = evidence.at(selection.index)
    sides = {name: [_top(chosen.classes, p, 1) for p in values] for name, values in chosen.probabilities.items()}
    scores = selection.score.tolist()
    match strategy:
        case "margin" | "entropy":
            likely = [_top(chosen.classes, p, 3) for p in chosen.probability]
            return [f"{strategy} {score:.3f}: {names}" for score, names in zip(scores, likely, strict=True)]
        case "disagreement" if sides:
            pairs = zip(sides["video"], sides["audio"], strict=True)
            return [f"video says {video}; audio says {audio}" for video, audio in pairs]
        case "disagreement":
            return [f"sound and picture do not match: cosine {1 - score:.3f}" for score in scores]
        case "k-center":
            return [_distance_in_words(score) for score in scores]
        case "typicality":
            return ["most typical of what is left of its group"] * len(scores)
    return ["by chance"] * len(scores)


def _top(classes: np.ndarray, probabilities: np.ndarray, count: int) -> str:
    best = np.argsort(-probabilities, kind="stable")[:count]
    return ", ".join(f"{classes[k]} {probabilities[k]:.2f}" for k in best)


def _distance_in_words(distance: float) -> str:
    if np.isinf(distance):
        return "by chance: no row has a label"
    return f"{distance:.3f} from the nearest row with a label or a better rank"
