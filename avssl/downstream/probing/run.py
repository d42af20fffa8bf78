"""A protocol on a model, beside its random twin and the baselines, over all divisions of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.data.splits.folds import Fold
from avssl.downstream.probing.part import Measured, Part, Protocol, ProtocolSettings
from avssl.evaluation import bootstrap_interval, mean_and_deviation
from avssl.features.extract import Features, Pretrained, extract_features

_NAMES = ("model", "modality", "layer")


def run_protocol(
    protocol: Protocol,
    models: Mapping[str, Pretrained],
    rows: Manifest,
    divisions: list[Fold],
    label_column: str,
    settings: ProtocolSettings,
    *,
    num_workers: int = 0,
    cache_folder: Path | str | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Measures every model.

    Args:
        protocol: What is measured.
        models: By the name they have in the table; labels or sound are shuffled for the first one.
        rows: Labeled rows.
        divisions: Of these rows.
        label_column: Where the labels are.
        settings: Of the protocol.
        num_workers: Decoding processes.
        cache_folder: Where features are kept.
        progress: Show bars.

    Returns:
        ``protocol``: sizes, hash of the clip list, windows, seed, of retrieval ``gallery_size``; and ``rows``: by
        model, modality and layer, with the protocol's numbers, the ``interval`` (95 %) of the first over test clips,
        or with several divisions its ``..._sd`` and ``by_division``. The best layer of a model and modality is
        marked: it is chosen on the scored rows, as published tables do.

    Raises:
        ValueError: If the protocol chooses its rows from one division, and there are several.
    """
    if protocol.choose is not None:
        rows, divisions = _chosen(protocol, rows, divisions, label_column, settings)
    windows = settings.windows_per_clip or protocol.windows
    by_division: list[list[dict[str, Any]]] = [[] for _ in divisions]
    baselines: list[list[dict[str, Any]]] = [[] for _ in divisions]
    for number, (name, model) in enumerate(models.items()):
        features = extract_features(
            model,
            rows,
            windows_per_clip=windows,
            num_workers=num_workers,
            cache_folder=cache_folder,
            progress=progress,
            title=f"extract, {name}",
            **protocol.extraction(model, settings),
        )
        parts = [
            replace(_part(features, rows[label_column], division, settings, model), progress=progress)
            for division in divisions
        ]
        for found, others, part in zip(by_division, baselines, parts, strict=True):
            found += [_plain(row, settings.seed, model=name) for row in protocol.measure(part)]
            if number == 0:
                others += _shuffled(protocol, part)
                others += [_plain(row, settings.seed) for row in protocol.baselines(part)]
    table = _merged([found + others for found, others in zip(by_division, baselines, strict=True)], protocol.headline)
    _mark_best_layers(table, protocol.headline)
    about = {"name": protocol.title, "label_column": label_column, "windows_per_clip": windows}
    return {"protocol": about | _sizes(protocol, rows, divisions, parts), "rows": table}


def _sizes(protocol: Protocol, rows: Manifest, divisions: list[Fold], parts: list[Part]) -> dict[str, Any]:
    """What was measured on; the counts outside ``divisions`` are those of the first."""
    counts = [
        {"name": division.name, "n_train": len(part.train), "n_test": len(part.test)}
        for division, part in zip(divisions, parts, strict=True)
    ]
    if protocol.gallery:
        for count in counts:
            count["gallery_size"] = count[f"n_{protocol.gallery}"]
    first = parts[0]
    gallery = {"gallery_size": counts[0]["gallery_size"]} if protocol.gallery else {}
    return gallery | {
        "n_train": counts[0]["n_train"],
        "n_test": counts[0]["n_test"],
        "num_classes": len(np.unique(first.labels[first.test].astype(str))),
        "unreadable": len(first.features.failures),
        "clip_list": rows.hash(),
        "seed": first.settings.seed,
        "divisions": counts,
    }


def _chosen(
    protocol: Protocol, rows: Manifest, divisions: list[Fold], label_column: str, settings: ProtocolSettings
) -> tuple[Manifest, list[Fold]]:
    """The test rows that the protocol chooses, alone, of the one division."""
    assert protocol.choose is not None, "asked for only where rows are chosen"
    if len(divisions) > 1:
        names = ", ".join(division.name for division in divisions)
        raise InputError(f"rows are chosen from one split, and there are {len(divisions)}: {names}. Name one of them.")
    test = divisions[0].test
    ids, labels = rows["id"][test], rows[label_column][test]
    kept = test[protocol.choose(ids, labels, settings)]
    everything = np.arange(len(kept))
    return rows.select(kept), [Fold(divisions[0].name, everything[:0], everything)]


def _part(
    features: Features, labels: np.ndarray, division: Fold, settings: ProtocolSettings, model: Pretrained
) -> Part:
    train, test = (np.flatnonzero(np.isin(features.rows, rows)) for rows in (division.train, division.test))
    return Part(features, labels[features.rows], train, test, settings, model.device)


def _shuffled(protocol: Protocol, part: Part) -> list[dict[str, Any]]:
    if not protocol.shuffled:
        return []
    moved = part.with_shuffled_labels() if protocol.shuffled == "labels" else part.with_shuffled_sound()
    name = f"shuffled {protocol.shuffled}"
    return [_plain(row, part.settings.seed, model=name) for row in protocol.measure(moved)]


def _plain(row: Measured, seed: int, model: str = "") -> dict[str, Any]:
    """A row of the table; a baseline names its model itself."""
    plain: dict[str, Any] = {"model": row.model or model, "modality": row.modality}
    if row.layer:
        plain["layer"] = row.layer
    headline, *rest = row.numbers
    plain[headline] = row.numbers[headline]
    if row.per_clip is not None:
        plain["interval"] = bootstrap_interval(row.per_clip, seed=seed)
    return plain | {name: row.numbers[name] for name in rest}


def _merged(divisions: list[list[dict[str, Any]]], headline: str) -> list[dict[str, Any]]:
    """Rows of one division as they are; of several, their means."""
    if len(divisions) == 1:
        return divisions[0]
    merged = []
    for same in zip(*divisions, strict=True):
        keys = {tuple(row.get(name, "") for name in _NAMES) for row in same}
        assert len(keys) == 1, f"divisions give rows in one order, got {keys}"
        row = {name: value for name, value in same[0].items() if name in _NAMES}
        for name in same[0]:
            if name not in (*_NAMES, "interval"):
                row[name], deviation = mean_and_deviation([other[name] for other in same])
                if name == headline:
                    row[f"{name}_sd"] = deviation
                    row["by_division"] = [other[name] for other in same]
        merged.append(row)
    return merged


def _mark_best_layers(table: list[dict[str, Any]], headline: str) -> None:
    """``best_layer`` of every row with a layer, where a model and modality have several."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table:
        if "layer" in row:
            groups.setdefault((row["model"], row["modality"]), []).append(row)
    for rows in groups.values():
        if len(rows) > 1:
            best = max(rows, key=lambda row: row[headline])
            for row in rows:
                row["best_layer"] = row is best
