"""Rank the rows without a label for annotation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits import has_label
from avssl.downstream.labeling.features import MODALITIES, FeatureSettings, extract_row_features
from avssl.evaluation import Evidence, Selection, check_budget, check_strategy, gather_evidence, select_clips
from avssl.hub.pretrained import PretrainedModel

_SPAN = ("start_seconds", "stop_seconds")


@dataclass(frozen=True, eq=False)
class Ranking:
    """Rows to label next, and the counts of the rows they were chosen from."""

    table: pa.Table
    """Best row first: rank, id, path, start_seconds, stop_seconds, score in the strategy's unit, why."""
    num_rows: int
    """Number of readable rows outside the test split."""
    num_labeled: int
    """Number of readable rows with a label."""
    num_classes: int
    """Number of classes of the classifiers."""
    num_test_rows: int
    """Number of rows of the test split, which are left out."""
    num_failures: int
    """Number of rows that could not be read."""


def rank_rows(
    pretrained: PretrainedModel,
    manifest: Manifest,
    strategy: str,
    budget: int,
    *,
    label_column: str,
    split_column: str,
    test_split: str,
    seed: int = 0,
    settings: FeatureSettings | None = None,
) -> Ranking:
    """Rank the rows without a label by a strategy of :data:`avssl.evaluation.STRATEGIES`; return the first ``budget``.

    Rows with several labels, joined by ``|``, count as labeled but do not train the classifiers. Rows of the test
    split are neither ranked nor trained on; the manifest need not have a split column.

    Raises:
        ManifestError: If every row has a label, or the label column is missing.
        ValueError: If the budget exceeds the rows without a label, or the strategy needs labels.
    """
    kept = manifest.select(manifest[split_column] != test_split) if split_column in manifest else manifest
    settings = settings or FeatureSettings()
    labels, labeled, single = _labels(kept, label_column)
    if labeled.all():
        raise ManifestError(f"every row has a {label_column!r} already; use --simulate to compare strategies.")
    check_strategy(strategy, MODALITIES[settings.modality], len(np.unique(labels[single].astype(str))))
    check_budget(labeled, budget)
    found = extract_row_features(pretrained, kept, [strategy], settings)
    labels, labeled, single = (values[found.rows] for values in (labels, labeled, single))
    evidence = gather_evidence(found.features, labels, single, found.embeddings)
    selection = select_clips(strategy, evidence, labeled, budget, seed)
    return Ranking(
        _table(kept.select(found.rows), selection, _reasons(strategy, evidence, selection)),
        num_rows=len(found.rows),
        num_labeled=int(labeled.sum()),
        num_classes=len(evidence.classes),
        num_test_rows=len(manifest) - len(kept),
        num_failures=found.num_failures,
    )


def _labels(manifest: Manifest, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (N,) labels, and masks of rows with at least one and exactly one; column ``label`` may be missing."""
    if column == "label" and column not in manifest:
        none = np.zeros(len(manifest), dtype=bool)
        return np.full(len(manifest), "", dtype=object), none, none
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
    """Return one line for the annotator about each chosen clip."""
    chosen = evidence.at(selection.index)
    top = {name: [_top(chosen.classes, p, 1) for p in values] for name, values in chosen.probabilities.items()}
    scores = selection.score.tolist()
    match strategy:
        case "margin" | "entropy":
            likely = [_top(chosen.classes, p, 3) for p in chosen.probability]
            return [f"{strategy} {score:.3f}: {names}" for score, names in zip(scores, likely, strict=True)]
        case "disagreement" if top:
            pairs = zip(top["video"], top["audio"], strict=True)
            return [f"video: {video}; audio: {audio}" for video, audio in pairs]
        case "disagreement":
            return [f"audio and video do not match: cosine {1 - score:.3f}" for score in scores]
        case "k-center":
            return [_distance_text(score) for score in scores]
        case "typicality":
            return ["most typical of its remaining group"] * len(scores)
    return ["random"] * len(scores)


def _top(classes: np.ndarray, probabilities: np.ndarray, count: int) -> str:
    best = np.argsort(-probabilities, kind="stable")[:count]
    return ", ".join(f"{classes[k]} {probabilities[k]:.2f}" for k in best)


def _distance_text(distance: float) -> str:
    if np.isinf(distance):
        return "random: no row has a label"
    return f"{distance:.3f} from the nearest row with a label or a better rank"
