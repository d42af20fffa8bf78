"""Results of a release for its card: measured by its own run, and by ``avssl benchmark``.

No number enters a card unless its file says that it was measured with these weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from avssl.core.data_files import read_json
from avssl.core.user_files import read_text
from avssl.hub.release import HubError
from avssl.reports.text_table import markdown_table
from avssl.training.monitors import BEST_BY

_MAX_CONFIG_BYTES, _MAX_METRICS_BYTES = 2**20, 2**31
_BASELINES = {"chance": "chance", "largest_class": "largest class"}


@dataclass(frozen=True)
class CardResult:
    """One number on a card."""

    data: str
    """Name of the data set."""
    protocol: str
    measure: str
    value: float
    n: int
    """Clips that it was measured on."""
    baselines: dict[str, float] = field(default_factory=dict)
    """Values of the same measure without a trained model."""
    task: str = "other"
    """Task, as the hub names it."""


def results_of_run(release: Path) -> list[CardResult]:
    """Return what a run has measured of its own weights; empty where a release is not in a run directory.

    A classifier has the scores of its test, a pretrained model its retrieval among held-out rows.

    Args:
        release: Folder of the release, such as ``runs/first/weights`` or ``runs/birds/folds/fold-1/weights``.
    """
    fold, run = release.parent / "results.json", release.parent
    if fold.exists() and (release.parent.parent.name == "folds"):
        return _of_fold(read_json(fold), _source(release.parents[2]))
    return _of_pretraining(run / "metrics.jsonl", release.name == "weights_best", _source(run))


def _of_fold(result: Mapping[str, Any], data: str) -> list[CardResult]:
    numbers = result["numbers"]
    measure = next(iter(numbers))
    baselines = {title: numbers[name] for name, title in _BASELINES.items() if name in numbers}
    split = "" if result["fold"] in ("split", "test") else f", test fold {result['fold']}"
    title = "accuracy" if measure == "top1" else measure
    return [
        CardResult(
            data, f"fine-tuning{split}", title, numbers[measure], result["n_test"], baselines, "video-classification"
        )
    ]


def _of_pretraining(metrics: Path, best: bool, data: str) -> list[CardResult]:
    if not metrics.exists():
        return []
    records = [json.loads(line) for line in read_text(metrics, _MAX_METRICS_BYTES).splitlines()]
    measured = [each for each in records if each.get("retrieval/held_out") and each.get(BEST_BY) is not None]
    if not measured:
        return []
    chosen = max(measured, key=lambda each: each[BEST_BY]) if best else measured[-1]
    if not best and chosen["step"] != records[-1]["step"]:  # of earlier weights
        return []
    name = BEST_BY.removeprefix("retrieval/")
    baselines = {"chance": chosen[f"retrieval/chance_{name}"]}
    if (shuffled := chosen.get(f"retrieval_shuffled/{name}")) is not None:
        baselines["shuffled audio"] = shuffled
    number = int(chosen["retrieval/gallery_size"])
    protocol = "retrieval among held-out rows" + (", by which these weights were chosen" if best else "")
    return [CardResult(data, protocol, f"{name}, mean of both directions", chosen[BEST_BY], number, baselines)]


def _source(run: Path) -> str:
    """Return the name of a run's data, without its path."""
    try:
        settings = yaml.safe_load(read_text(run / "config.yaml", _MAX_CONFIG_BYTES))
        place = Path(str(settings["data"]["source"]).rstrip("/"))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return run.name
    return place.parent.name if place.stem.lower() == "manifest" else place.stem


def results_of_benchmark(path: Path | str, weights: str) -> list[CardResult]:
    """Return the scores of these weights in ``results.json`` of ``avssl benchmark``.

    Args:
        path: The file, or its folder.
        weights: Hash of the release's tensors.

    Raises:
        HubError: If it is another file, or the benchmark has no scores of these weights.
    """
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    content = read_json(path)
    if not isinstance(content, dict) or not {"models", "cells"} <= set(content):
        raise HubError(f"{path}: not the results of avssl benchmark: name its folder, or results.json in it.")
    names = [model["name"] for model in content["models"] if model["weights"] == weights]
    if not names:
        known = ", ".join(f"{model['name']} {model['weights']}" for model in content["models"])
        raise HubError(f"{path}: has no scores of these weights ({weights}); its models are {known}.")
    return [
        CardResult(
            cell["data"], cell["protocol"], score["measure"], score["value"], score["n"], dict(score["baselines"])
        )
        for cell in content["cells"]
        if cell["model"] == names[0]
        for score in cell["scores"]
        if score["is_headline"]
    ]


def results_table(results: Sequence[CardResult]) -> str:
    """Return the section of a card."""
    rows = [
        [
            each.data,
            each.protocol,
            each.measure,
            f"{each.value:.3f}",
            str(each.n),
            ", ".join(f"{name} {value:.3f}" for name, value in each.baselines.items()) or "–",
        ]
        for each in results
    ]
    return f"## Results\n\n{markdown_table(['data', 'protocol', 'measure', 'value', 'n', 'baselines'], rows)}\n"


def model_index(name: str, results: Sequence[CardResult], client: Any) -> list[dict[str, Any]]:
    """Return ``model-index`` of a card, which the hub shows; ``client`` is huggingface_hub."""
    entries = [
        client.EvalResult(
            task_type=each.task,
            task_name=each.protocol,
            dataset_type=_slug(each.data),
            dataset_name=each.data,
            dataset_config=_slug(each.protocol),
            metric_type=_slug(each.measure),
            metric_name=each.measure,
            metric_value=round(each.value, 4),
            metric_args={"n": each.n, **{title: round(value, 4) for title, value in each.baselines.items()}},
        )
        for each in results
    ]
    index: list[dict[str, Any]] = client.repocard_data.eval_results_to_model_index(name, entries)
    return index


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9@]+", "_", text.lower()).strip("_")
