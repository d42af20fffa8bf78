"""Calibration and unknown clips in the report: sentences, tables and the reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from avssl.evaluation.reliability import Reliability
from avssl.reports.figures import new_figure

_NUMBERS = ("ece", "brier", "nll")
_NAMES = {"before": "uncalibrated", "after": "calibrated", "chance": "equal probabilities"}


def calibration_note(calibration: Mapping[str, Any]) -> str:
    """Return a sentence on how the temperature was chosen."""
    if calibration["n_val"]:
        return f"Temperature {calibration['temperature']:.3g}, fitted to {calibration['n_val']} validation clips."
    return f"Temperature 1: {calibration['reason']}"


def calibration_rows(calibration: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return table rows of the errors on test clips."""
    return [
        (name, *(f"{calibration[key][number]:.4f}" for number in _NUMBERS))
        for key, name in _NAMES.items()
        if key in calibration
    ]


def unknown_note(unknown: Mapping[str, Any]) -> str:
    """Return sentences on the unknown clips and on the threshold."""
    text = (
        f"{unknown['n_unknown']} clips of the classes {', '.join(unknown['classes'])}, which were never trained on, "
        f"beside {unknown['n_known']} test clips."
    )
    if unknown["threshold"] is None:
        return f"{text} Without validation clips there is no threshold."
    return (
        f"{text} The threshold {unknown['threshold']:.4g} of the score {unknown['score']} calls "
        f"{unknown['n_unknown_found']} of the unknown clips unknown, and {unknown['n_known_lost']} of the others."
    )


def unknown_rows(unknown: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return table rows of both scores, beside chance."""
    return [
        (name, *(f"{unknown[name][number]:.3f}" for number in ("auroc", "fpr95")))
        for name in ("energy", "probability", "chance")
    ]


def draw_reliability(curves: Mapping[str, Reliability]) -> Any:
    """Draw the accuracy of each bin over its confidence, and below how many predictions each holds."""
    figure = new_figure(560, 560, dpi=100)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1, label="perfect")
    for name, curve in curves.items():
        edges = np.linspace(0, 1, len(curve.count) + 1)
        filled = curve.count > 0
        label = f"{name}: ECE {curve.expected_error:.3f}"
        above.plot(curve.confidence[filled], curve.accuracy[filled], marker="o", markersize=4, label=label)
        below.stairs(curve.count, edges)
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    above.legend(loc="upper left", fontsize=9)
    below.set(xlabel="confidence", ylabel="predictions")
    figure.tight_layout()
    return figure
