"""Run a protocol on a model, its random initialization and the baselines, over all divisions of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.data.splits import Division, Recordings, labeled_rows
from avssl.downstream.probing.protocol import ProbeData, ProbeProtocol, ProbeSettings, ResultRow
from avssl.evaluation import mean_and_deviation, mean_interval
from avssl.evaluation.multi_label import class_names
from avssl.features.extract import Features, extract_features
from avssl.hub.pretrained import PretrainedModel

_NAMES = ("model", "modality", "layer")


def run_protocol(
    protocol: ProbeProtocol,
    models: Mapping[str, PretrainedModel],
    manifest: Manifest,
    divisions: Sequence[Division],
    label_column: str,
    settings: ProbeSettings,
    *,
    num_workers: int = 0,
    cache_folder: Path | str | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure every model on every division of the rows of a manifest.

    The control row shuffles labels or audio of the first model.

    Returns:
        ``protocol``: sizes, hash of the clip list, windows, seed, and ``gallery_size`` for retrieval; and ``rows``:
        by model, modality and layer, with the protocol's numbers, those of each class (``by_class``) if the first is
        a mean over the classes of one division, the 95 % ``interval`` of the first over the recordings of the test
        clips, or with several divisions its ``..._sd`` and ``by_division``. The best layer of a model and modality
        is marked: it is chosen on the test rows, as in published tables.

    Raises:
        ValueError: If the protocol chooses its rows from one division, and there are several.
    """
    if protocol.choose is not None:
        divisions = [choose_rows(protocol, manifest, divisions, label_column, settings)]
    used = labeled_rows(divisions)
    rows = manifest.select(used)
    recordings = Recordings(rows).groups
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
        labels = rows[label_column][features.rows]
        data = [
            ProbeData(features, labels, *positions(features, used, division), settings, model.device, progress)
            for division in divisions
        ]
        for results, others, each in zip(by_division, baselines, data, strict=True):
            owners = recordings[features.rows][each.test]
            results += [_plain(row, owners, settings.seed, model=name) for row in protocol.measure(each)]
            if number == 0:
                others += _shuffled(protocol, each, owners)
                others += [_plain(row, owners, settings.seed) for row in protocol.baselines(each)]
    table = _merged([one + others for one, others in zip(by_division, baselines, strict=True)], protocol.headline)
    _mark_best_layers(table, protocol.headline)
    about = {"name": protocol.title, "label_column": label_column, "windows_per_clip": windows}
    return {"protocol": about | _sizes(protocol, rows, divisions, data), "rows": table}


def positions(features: Features, used: np.ndarray, division: Division) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the training and the test rows among the readable ones."""
    readable = used[features.rows]
    return np.flatnonzero(np.isin(readable, division.train)), np.flatnonzero(np.isin(readable, division.test))


def _sizes(
    protocol: ProbeProtocol, rows: Manifest, divisions: Sequence[Division], data: Sequence[ProbeData]
) -> dict[str, Any]:
    """Return the sizes of the evaluation; top-level counts are those of the first division."""
    counts = [
        {"name": division.name, "n_train": len(each.train), "n_test": len(each.test)}
        for division, each in zip(divisions, data, strict=True)
    ]
    if protocol.gallery:
        for count in counts:
            count["gallery_size"] = count[f"n_{protocol.gallery}"]
    first = data[0]
    gallery = {"gallery_size": counts[0]["gallery_size"]} if protocol.gallery else {}
    return gallery | {
        "n_train": counts[0]["n_train"],
        "n_test": counts[0]["n_test"],
        "num_classes": len(class_names(first.labels[first.test])),
        "unreadable": len(first.features.failures),
        "clip_list": rows.hash(),
        "seed": first.settings.seed,
        "divisions": counts,
    }


def choose_rows(
    protocol: ProbeProtocol,
    manifest: Manifest,
    divisions: Sequence[Division],
    label_column: str,
    settings: ProbeSettings,
) -> Division:
    """Return the one division, reduced to the test rows that the protocol chooses, if it does."""
    if len(divisions) > 1:
        names = ", ".join(division.name for division in divisions)
        raise InputError(
            f"the protocol chooses its rows from one division, and there are {len(divisions)}: {names}. "
            "Name one split column, and no folds."
        )
    if protocol.choose is None:
        return divisions[0]
    test = divisions[0].test
    keep = protocol.choose(manifest["id"][test], manifest[label_column][test], settings)
    return replace(divisions[0], train=test[:0], test=test[keep])


def _shuffled(protocol: ProbeProtocol, data: ProbeData, recordings: np.ndarray) -> list[dict[str, Any]]:
    if not protocol.shuffled:
        return []
    control = data.with_shuffled_labels() if protocol.shuffled == "labels" else data.with_shuffled_audio()
    name = f"shuffled {protocol.shuffled}"
    return [_plain(row, recordings, data.settings.seed, model=name) for row in protocol.measure(control)]


def _plain(row: ResultRow, recordings: np.ndarray, seed: int, model: str = "") -> dict[str, Any]:
    """Return a row as plain values, given the recordings of the test rows; a baseline has its own model name."""
    plain: dict[str, Any] = {"model": row.model or model, "modality": row.modality}
    if row.layer:
        plain["layer"] = row.layer
    headline, *rest = row.numbers
    plain[headline] = row.numbers[headline]
    if row.per_clip is not None:
        plain["interval"] = mean_interval(row.per_clip, recordings, seed)
    if row.by_class is not None:
        plain["by_class"] = row.by_class
    return plain | {name: row.numbers[name] for name in rest}


def _merged(divisions: list[list[dict[str, Any]]], headline: str) -> list[dict[str, Any]]:
    """Return the rows of a single division unchanged; the means over several."""
    if len(divisions) == 1:
        return divisions[0]
    merged = []
    for same in zip(*divisions, strict=True):
        keys = {tuple(row.get(name, "") for name in _NAMES) for row in same}
        assert len(keys) == 1, f"all divisions have their rows in one order, got {keys}"
        row = {name: value for name, value in same[0].items() if name in _NAMES}
        for name in same[0]:
            if name not in (*_NAMES, "interval", "by_class"):
                row[name], deviation = mean_and_deviation([other[name] for other in same])
                if name == headline:
                    row[f"{name}_sd"] = deviation
                    row["by_division"] = [other[name] for other in same]
        merged.append(row)
    return merged


def _mark_best_layers(table: list[dict[str, Any]], headline: str) -> None:
    """Set ``best_layer`` in every row with a layer, if a model and modality have several."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table:
        if "layer" in row:
            groups.setdefault((row["model"], row["modality"]), []).append(row)
    for rows in groups.values():
        if len(rows) > 1:
            best = max(rows, key=lambda row: row[headline])
            for row in rows:
                row["best_layer"] = row is best
