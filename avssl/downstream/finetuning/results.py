"""Summary of the results of all folds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from avssl.downstream.finetuning.calibrating import calibration_text
from avssl.downstream.finetuning.run import ClassifierRun


def summarize(run: ClassifierRun[Any], name: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the protocol, every finished fold, and mean and sample standard deviation of their numbers.

    The standard deviation is over folds, and None with one fold.
    """
    config = run.config
    numbers = [result["numbers"] for result in results]
    common = [key for key in numbers[0] if all(key in of_fold for of_fold in numbers)]
    values = {key: [of_fold[key] for of_fold in numbers] for key in common}
    return {
        "protocol": {
            "name": name,
            "labels": config.labels.label_column,
            "labels_per_class": config.labels.per_class,
            "label_fraction": config.labels.fraction,
            "subset_seed": config.labels.subset_seed,
            "num_classes": len(run.labels.classes),
            "inputs": config.classifier.inputs,
            "clips": config.test.windows_per_clip,
            "crop": config.test.crop or config.transform.video.eval_crop,
            "average": config.test.average,
            "seed": config.train.seed,
            "checkpoint": config.train.checkpoint or "none",
            "clip_list": run.manifest.hash(),
            "unusable_files": len(run.unusable),
            "folds": f"{len(results)} of {len(run.divisions)}",
        },
        "mean": {key: statistics.fmean(of_folds) for key, of_folds in values.items()},
        "sd": {key: statistics.stdev(of_folds) if len(results) > 1 else None for key, of_folds in values.items()},
        "folds": list(results),
    }


def summary_text(summary: Mapping[str, Any]) -> str:
    """Format the numbers of every fold and their mean, in percent."""
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
    for result in summary["folds"]:
        lines += calibration_text(result)
    if about["unusable_files"]:
        lines.append(f"{about['unusable_files']} files cannot be used: unusable_files.csv in the run directory")
    unlabeled = sum(result["unlabeled_test"] for result in summary["folds"])
    if unlabeled:
        lines.append(f"{unlabeled} test rows have no usable label and are left out")
    unreadable = sum(result["unreadable_train"] + result["unreadable_test"] for result in summary["folds"])
    if unreadable:
        lines.append(f"{unreadable} rows could not be read and are left out")
    return "\n".join(lines)
