"""Simulate annotation strategies on rows whose labels are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.core.progress import Bar
from avssl.core.tables import write_table
from avssl.core.whole_file import write_json
from avssl.data.splits import divide, labeled_rows, num_unlabeled
from avssl.downstream.labeling.features import MODALITIES, FeatureSettings, extract_row_features
from avssl.evaluation import check_strategy, label_curve
from avssl.hub.pretrained import PretrainedModel
from avssl.reports.plots import draw_curves


def simulate(
    pretrained: PretrainedModel,
    manifest: Manifest,
    strategies: Sequence[str],
    budget: int,
    *,
    label_column: str,
    split_column: str,
    train_split: str,
    test_split: str,
    rounds: int,
    seeds: Sequence[int] = (0, 1, 2),
    settings: FeatureSettings | None = None,
) -> dict[str, Any]:
    """Compare strategies with random choice: label ``budget`` rows of the training split per round.

    Accuracy is measured on the test split. Rows without exactly one label are left out. A simulation stops when all
    rows are labeled, or after ``rounds``; each strategy is simulated once with each seed.

    Returns:
        ``protocol``, ``all_labels`` (accuracy with every label) and ``curves``: by strategy the number of
        ``labels``, ``accuracy`` by seed and round, its ``mean`` and ``deviation`` over seeds, and ``gain``: by seed,
        the mean over rounds minus that of random.

    Raises:
        ManifestError: If a column, a split or all labels of a split are missing.
        ValueError: If a strategy is unknown or needs both modalities, or a number is below 1.
    """
    settings = settings or FeatureSettings()
    if min(rounds, len(seeds)) < 1:
        raise InputError(f"rounds ({rounds}) and the number of seeds ({len(seeds)}) must be at least 1.")
    names = list(dict.fromkeys(["random", *strategies]))
    for name in names:
        check_strategy(name, MODALITIES[settings.modality], num_classes=2)
    (division,) = divide(
        manifest, label_column, split_columns=[split_column], train_split=train_split, test_split=test_split
    )
    used = labeled_rows([division])
    found = extract_row_features(pretrained, manifest.select(used), names, settings)
    readable = used[found.rows]
    labels = manifest[label_column][readable].astype(str)
    pool, test = (np.flatnonzero(np.isin(readable, rows)) for rows in (division.train, division.test))

    curve_of = partial(label_curve, features=found.features, labels=labels, pool=pool, test=test)

    def curve(name: str, seed: int, budget: int, rounds: int) -> list[tuple[int, float]]:
        points = curve_of(name, budget=budget, rounds=rounds, embeddings=found.embeddings, seed=seed)
        return [(point.num_labels, point.accuracy) for point in points]

    curves: dict[str, list[list[tuple[int, float]]]] = {name: [] for name in names}
    with Bar(desc="simulate", total=len(names) * len(seeds), unit="curve", show=settings.progress) as bar:
        for name in names:
            for seed in seeds:
                curves[name].append(curve(name, seed, budget, rounds))
                bar.update()
    return {
        "protocol": {
            "name": "active learning on frozen features; a linear classifier for each modality, probabilities averaged",
            "first_round": "strategies that need a classifier start with random clips",
            "modality": settings.modality,
            "label_column": label_column,
            "num_classes": len(np.unique(labels[pool])),
            "n_pool": len(pool),
            "n_test": len(test),
            "unreadable": found.num_failures,
            "unlabeled": num_unlabeled([division]),
            "budget": budget,
            "seeds": list(seeds),
            "windows_per_clip": settings.windows_per_clip,
            "clip_list": manifest.select(used).hash(),
            "weights": pretrained.weights_hash(),
        },
        "all_labels": curve("random", seeds[0], len(pool), 1)[0][1],
        "curves": _summaries(curves),
    }


def _summaries(curves: Mapping[str, list[list[tuple[int, float]]]]) -> dict[str, dict[str, Any]]:
    """Summarize the curves by strategy, seed and round."""
    accuracy = {name: np.array([[a for _, a in points] for points in by_seed]) for name, by_seed in curves.items()}
    return {
        name: {
            "labels": [count for count, _ in curves[name][0]],
            "accuracy": values.round(6).tolist(),
            "mean": values.mean(axis=0).round(6).tolist(),
            "deviation": _deviation(values).round(6).tolist(),
            "gain": (values - accuracy["random"]).mean(axis=1).round(6).tolist(),
        }
        for name, values in accuracy.items()
    }


def _deviation(values: np.ndarray) -> np.ndarray:
    """Return the sample standard deviation over the first axis; 0 for a single seed."""
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros_like(values[0])


def write_simulation(report: Mapping[str, Any], out: Path) -> None:
    """Write ``curve.json``, ``curve.csv`` and ``curve.png`` into a directory, which is created if missing."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "curve.json", report)
    about, curves = report["protocol"], report["curves"]
    lines = [
        (name, seed, labels, value)
        for name, curve in curves.items()
        for seed, values in zip(about["seeds"], curve["accuracy"], strict=True)
        for labels, value in zip(curve["labels"], values, strict=True)
    ]
    columns = ("strategy", "seed", "labels", "accuracy")
    write_table(pa.table({name: [line[i] for line in lines] for i, name in enumerate(columns)}), out / "curve.csv")
    draw_curves(
        {name: (curve["labels"], curve["mean"], curve["deviation"]) for name, curve in curves.items()},
        out / "curve.png",
        x_label="labels used",
        y_label="accuracy on the test split",
        title=f"{about['label_column']} of {about['n_test']} clips, {' and '.join(MODALITIES[about['modality']])}: "
        f"mean and standard deviation of {len(about['seeds'])} seeds",
        baseline="random",
    )


def simulation_text(report: Mapping[str, Any]) -> str:
    """Format accuracy by labels and strategy, in percent, and the gain of each strategy over random."""
    about, curves = report["protocol"], report["curves"]
    seeds = len(about["seeds"])
    lines = [
        f"{about['label_column']}: {about['num_classes']} classes, {about['n_pool']} rows to label, "
        f"{about['n_test']} test rows, {seeds} seeds; accuracy in percent, mean ± standard deviation over seeds",
        "",
        f"{'labels':>7}" + "".join(f"{name:>15}" for name in curves),
    ]
    for i, labels in enumerate(curves["random"]["labels"]):
        cells = (f"{100 * curve['mean'][i]:.1f} ± {100 * curve['deviation'][i]:.1f}" for curve in curves.values())
        lines.append(f"{labels:>7}" + "".join(f"{cell:>15}" for cell in cells))
    lines += [
        "",
        f"with all {about['n_pool']} labels: {100 * report['all_labels']:.1f}",
        "",
        "gain over random, mean of the rounds:",
    ]
    for name, curve in curves.items():
        gain = np.array(curve["gain"])
        if name != "random":
            spread = f"{100 * gain.mean():+.1f} ± {100 * float(_deviation(gain)):.1f}"
            lines.append(f"  {name:<14}{spread:>12}   better with {(gain > 0).sum()} of {seeds} seeds")
    if about["unreadable"]:
        lines.append(f"{about['unreadable']} rows could not be read and are left out")
    if about["unlabeled"]:
        lines.append(f"{about['unlabeled']} rows of these splits have no label or several and are left out")
    return "\n".join(lines)
