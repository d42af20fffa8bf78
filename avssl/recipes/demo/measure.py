"""Measurements of the demo: probes, retrieval and localization, each with its baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from avssl.core.cpus import decoding_workers
from avssl.core.errors import RunError
from avssl.core.manifest import Manifest
from avssl.downstream.localization import LocalizationTable, measure_localization
from avssl.engine import choose_device
from avssl.evaluation import cross_modal_retrieval, modality_probes
from avssl.features.extract import Features, extract_features
from avssl.hub.pretrained import PretrainedModel, from_pretrained, random_init
from avssl.recipes.demo.settings import BACKEND, DemoSettings


def measure(run: Path, manifest: Manifest, settings: DemoSettings) -> dict[str, Any]:
    """Compute all tables of the report, as plain values.

    Probes use labels of training clips, pretraining does not. Neither uses the test clips.
    """
    used = manifest.select((manifest["split"] != "pairs") & (manifest["num_objects"].astype(int) <= 3))
    pretrained = from_pretrained(run, choose_device(settings.device), crop="full")
    models = {"trained": pretrained, "random-init": random_init(pretrained, settings.seed + 1)}
    features = {name: _features(model, used, settings, run) for name, model in models.items()}
    several, pairs = (
        measure_localization(pretrained, manifest.where(split=split), seed=settings.seed, backend=BACKEND)
        for split in ("several", "pairs")
    )
    return {
        "probes": _probes(used, features, settings.seed),
        "retrieval": {name: _retrieval(model, used, settings, run) for name, model in models.items()},
        "localization": {"several": _plain(several), "pairs": _plain(pairs)},
    }


def _extract(model: PretrainedModel, manifest: Manifest, settings: DemoSettings, run: Path, what: Any) -> Features:
    return extract_features(
        model,
        manifest,
        windows_per_clip=settings.windows_per_clip,
        what=what,
        backend=BACKEND,
        num_workers=decoding_workers(),
        cache_folder=run.parent / "cache",
        progress=True,
    )


def _features(model: PretrainedModel, manifest: Manifest, settings: DemoSettings, run: Path) -> Features:
    """Extract features of every row of the manifest."""
    found = _extract(model, manifest, settings, run, "features")
    if len(found.ids) != len(manifest):
        raise RunError(f"{len(manifest) - len(found.ids)} clips of the demo cannot be read: {found.failures[:1]}")
    return found


def _probes(manifest: Manifest, features: dict[str, Features], seed: int) -> list[dict[str, Any]]:
    """Fit linear probes for object and action, on clips of one object and of two or three."""
    split, count = manifest["split"], manifest["num_objects"].astype(int)
    train, alone = split == "train", count == 1
    tasks = [
        ("object, one object", "label", train & alone, split == "single"),
        ("action, one object", "action", train & alone, split == "single"),
        ("action, two or three objects", "action", train & ~alone, split == "several"),
    ]
    rows = []
    for task, column, fit, test in tasks:
        labels = manifest[column]
        test = test & np.isin(labels, list(set(labels[fit])))  # a tiny corpus may lack a class
        found = {
            name: modality_probes(part.video, part.audio, labels, fit, test, seed=seed)
            for name, part in features.items()
        }
        for modality, result in found["trained"].items():
            rows.append(
                {
                    "task": task,
                    "modality": modality,
                    **{name: results[modality].accuracy for name, results in found.items()},
                    "majority": float(max(np.mean(labels[test] == label) for label in result.classes)),
                    "chance": 1 / len(result.classes),
                    "n_train": result.n_train,
                    "n_test": result.n_test,
                    "classes": list(result.classes),
                    "confusion": result.confusion.tolist(),
                }
            )
    return rows


def _retrieval(model: PretrainedModel, manifest: Manifest, settings: DemoSettings, run: Path) -> dict[str, float]:
    """Measure retrieval among test clips of one object, by the cosine of the pooled embeddings."""
    found = _extract(model, manifest, settings, run, "embeddings")
    test = manifest["split"] == "single"
    return cross_modal_retrieval(torch.from_numpy(found.video[test]), torch.from_numpy(found.audio[test]))


def _plain(table: LocalizationTable) -> dict[str, Any]:
    intervals = {name: row["pointing"] for name, row in table.intervals.items()}
    return {"rows": table.rows, "intervals": intervals, "skipped": table.num_left_out}
