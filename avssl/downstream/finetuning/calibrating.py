"""Calibrate the classifier of a fold on its validation rows, and measure how well it tells rows of unknown classes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from avssl.config import FinetuneConfig
from avssl.core import distributed
from avssl.data.ledger import Failure
from avssl.downstream.finetuning.fold_rows import FoldRows
from avssl.downstream.finetuning.prediction import Evaluation, Predictions, predict
from avssl.evaluation.calibration import Calibration, known_scores
from avssl.evaluation.calibration_fit import KNOWN_SHARE, fit_temperature, threshold_that_keeps, unknown_numbers
from avssl.evaluation.reliability import Reliability, calibration_numbers, reliability
from avssl.models import Classifier
from avssl.transforms import ClipTransform

_log = logging.getLogger(__name__)
_NO_ROWS = "there are no validation rows (labels.val_split), so it is not fitted."
_FEW_ROWS = 50
"""Fewer validation rows than this give a temperature and a threshold that another draw of rows would change much."""
_SWITCHED_OFF = "test.calibrate is false."


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The calibration of a fold and its measurements on the test rows."""

    calibration: Calibration
    """For the release."""
    result: dict[str, Any]
    """``temperature``, ``n_val`` and the errors ``before`` and ``after``, for ``results.json``."""
    reliability: dict[str, Reliability]
    """Reliability of the probabilities of the test rows by name."""
    unknown: dict[str, Any] | None
    """Scores of unknown rows beside known ones; None if no class is held out."""
    failures: list[Failure]
    """Validation and unknown rows that could not be read."""


def calibrate(
    model: Classifier,
    transform: ClipTransform,
    rows: FoldRows,
    config: FinetuneConfig,
    evaluation: Evaluation,
    device: torch.device,
    progress: bool = False,
) -> Calibrated:
    """Fit the temperature and the threshold to the validation rows, and measure both on the test rows.

    The test rows choose nothing. Without validation rows the temperature is 1, and there is no threshold. Every rank
    calls it.
    """
    calibration, failures, num_val = Calibration(unknown_score=config.test.unknown_score), [], 0
    if config.test.calibrate and len(rows.val):
        val = predict(model, transform, rows.val, config, device=device, progress=progress)
        failures, num_val = val.failures, len(val.ids)
        calibration = _fitted(val, rows.val_targets[torch.from_numpy(val.rows)].numpy(), config)
        if num_val < _FEW_ROWS and distributed.is_main():
            _log.warning(
                "only %d validation rows: the temperature of the probabilities and the threshold of unknown videos are "
                "uncertain. At least %d are advised; give labels.val_split more rows",
                num_val,
                _FEW_ROWS,
            )
    elif config.test.calibrate:
        _log.info("  the temperature of the probabilities stays 1: %s", _NO_ROWS)
    targets = evaluation.targets.numpy()
    before = _probabilities(Calibration(), evaluation.predictions, config)
    after = _probabilities(calibration, evaluation.predictions, config)
    curves = {"uncalibrated": reliability(before, targets)}
    result: dict[str, Any] = {"temperature": calibration.temperature, "n_val": num_val}
    if num_val:
        curves["calibrated"] = reliability(after, targets)
    else:
        result["reason"] = _NO_ROWS if config.test.calibrate else _SWITCHED_OFF
    # Of several labels a clip, the share of all classes among the training rows: the test rows choose nothing here.
    share = rows.train_targets.double().mean().item() if targets.ndim == 2 else 1 / before.shape[1]
    equal = np.full(before.shape, share)
    result |= {"before": calibration_numbers(before, targets), "after": calibration_numbers(after, targets)}
    result["chance"] = calibration_numbers(equal, targets)
    unknown = None
    if len(rows.unknown):
        others = predict(model, transform, rows.unknown, config, device=device, progress=progress)
        failures = [*failures, *others.failures]
        unknown = _unknown_result(calibration, evaluation.predictions, others, config)
    return Calibrated(calibration, result, curves, unknown, failures)


def _fitted(val: Predictions, targets: np.ndarray, config: FinetuneConfig) -> Calibration:
    """Return the calibration that the validation rows choose."""
    score = config.test.unknown_score
    fitted = Calibration(fit_temperature(_probabilities(Calibration(), val, config), targets), score)
    threshold = threshold_that_keeps(_scores(fitted, val, config)[score], config.test.known_share)
    return Calibration(fitted.temperature, score, threshold)


def _probabilities(calibration: Calibration, predictions: Predictions, config: FinetuneConfig) -> np.ndarray:
    return calibration.probabilities(predictions.logits, config.test.average, config.labels.multi_label)


def _scores(calibration: Calibration, predictions: Predictions, config: FinetuneConfig) -> dict[str, np.ndarray]:
    probabilities = _probabilities(calibration, predictions, config)
    return known_scores(predictions.logits, probabilities, config.labels.multi_label)


def _unknown_result(
    calibration: Calibration, known: Predictions, unknown: Predictions, config: FinetuneConfig
) -> dict[str, Any]:
    """Return both scores beside chance, and what the threshold does."""
    of_known, of_unknown = (_scores(calibration, each, config) for each in (known, unknown))
    score, threshold = calibration.unknown_score, calibration.unknown_threshold
    result: dict[str, Any] = {
        "classes": list(config.labels.unknown_classes),
        "n_known": len(known.ids),
        "n_unknown": len(unknown.ids),
        **{name: unknown_numbers(of_known[name], of_unknown[name]) for name in of_known},
        "chance": {"auroc": 0.5, "fpr95": KNOWN_SHARE},
        "score": score,
        "threshold": threshold,
    }
    if threshold is not None:
        result["n_known_lost"] = int((of_known[score] < threshold).sum())
        result["n_unknown_found"] = int((of_unknown[score] < threshold).sum())
    return result


def calibration_text(fold: Mapping[str, Any]) -> list[str]:
    """Return lines on the calibration and the unknown rows of a fold; none for results of earlier versions."""
    lines: list[str] = []
    found = fold.get("calibration")
    if found is None:
        return lines
    if found["n_val"]:
        before, after, chance = found["before"], found["after"], found["chance"]
        numbers = ", ".join(
            f"{name} {before[key]:.3f} → {after[key]:.3f} (equal probabilities {chance[key]:.3f})"
            for key, name in {"ece": "ECE", "brier": "Brier", "nll": "NLL"}.items()
        )
        lines.append(
            f"{fold['fold']}: temperature {found['temperature']:.3g} ({found['n_val']} validation rows"
            f"{', few, so it is uncertain' if found['n_val'] < _FEW_ROWS else ''}); {numbers}"
        )
    else:
        lines.append(f"{fold['fold']}: temperature 1: {found['reason']} ECE {found['before']['ece']:.3f}")
    if unknown := fold.get("unknown"):
        scores = ", ".join(
            f"{name} AUROC {unknown[name]['auroc']:.3f}, FPR95 {unknown[name]['fpr95']:.3f}"
            for name in ("energy", "probability")
        )
        count = f"{unknown['n_unknown']} unknown and {unknown['n_known']} known rows"
        lines.append(f"{fold['fold']}: {scores} (chance 0.5 and 0.95; {count})")
        if unknown["threshold"] is not None:
            lines.append(
                f"{fold['fold']}: the threshold of {unknown['score']} finds {unknown['n_unknown_found']} unknown rows "
                f"and loses {unknown['n_known_lost']} known ones"
            )
    return lines
