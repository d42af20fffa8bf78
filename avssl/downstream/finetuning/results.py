"""The numbers of all folds as one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from avssl.downstream.finetuning.start import Started


def summarize(started: Started[Any], name: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The protocol, every fold that is done, and mean and standard deviation of their numbers.

    The standard deviation is over folds, of a sample; null with one fold.
    """
    config = started.config
    numbers = [result["numbers"] for result in results]
    names = [key for key in numbers[0] if all(key in of_fold for of_fold in numbers)]
    values = {key: [of_fold[key] for of_fold in numbers] for key in names}
    return {
        "protocol": {
            "name": name,
            "labels": config.labels.column,
            "labels_per_class": config.labels.per_class,
            "label_fraction": config.labels.fraction,
            "subset_seed": config.labels.subset_seed,
            "num_classes": len(started.labels.classes),
            "inputs": config.classifier.inputs,
            "clips": config.test.clips,
            "crop": config.test.crop or config.transform.video.eval_crop,
            "average": config.test.average,
            "seed": config.train.seed,
            "checkpoint": config.train.checkpoint or "none",
            "clip_list": started.manifest.hash(),
            "folds": f"{len(results)} of {len(started.folds)}",
        },
        "mean": {key: statistics.fmean(of_folds) for key, of_folds in values.items()},
        "sd": {key: statistics.stdev(of_folds) if len(results) > 1 else None for key, of_folds in values.items()},
        "folds": list(results),
    }


def table(summary: Mapping[str, Any]) -> str:
    """Every fold and their mean as text, in percent."""
    names = list(summary["mean"])
    about = summary["protocol"]
    head = f"{about['name']}: {about['labels']}, {about['num_classes']} classes, {about['inputs']}; in percent"
    lines = [head, "", f"{'fold':<14}{'n':>7}" + "".join(f"{name:>16}" for name in names)]
    for result in summary["folds"]:
        cells = "".join(f"{100 * result['numbers'][name]:>16.1f}" for name in names)
        lines.append(f"{result['fold']:<14}{result['n_test']:>7}{cells}")
    if len(summary["folds"]) > 1:
        cells = "".join(f"{100 * summary['mean'][name]:>9.1f} ± {100 * summary['sd'][name]:<4.1f}" for name in names)
        lines.append(f"{'mean ± sd':<21}{cells}")
    unlabeled = sum(result["unlabeled_test"] for result in summary["folds"])
    if unlabeled:
        lines.append(f"{unlabeled} test rows have no usable label and are left out")
    unreadable = sum(result["unreadable_train"] + result["unreadable_test"] for result in summary["folds"])
    if unreadable:
        lines.append(f"{unreadable} rows could not be read and are left out")
    return "\n".join(lines)
