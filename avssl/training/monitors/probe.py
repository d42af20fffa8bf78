"""How much of the labels a linear classifier reads from the features, as they are learned without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from avssl.core.errors import InputError
from avssl.engine import Precision
from avssl.evaluation import linear_probe
from avssl.training.monitors.clips import FP32, FixedClips, encode_clips
from avssl.training.tasks import PretrainTask

L2 = 1e-2
"""Weight of ``|W|^2 / 2``; one value, as this shows a trend and is no result."""
FEWEST = 8
"""Clips on either side; with fewer there is no number."""


class ProbeMonitor:
    """A linear probe on frozen features, fitted anew at each measurement. Training never sees a label.

    Args:
        fit_clips: The classifier is fitted on these.
        fit_labels: The label of each row of their manifest; None or "" where there is none, and rows
            with several, joined by ``|``, are left out.
        test_clips: And scored on these.
        test_labels: Of their manifest's rows.
        every_steps: Steps between measurements, >= 1.
        precision: The precision the model is trained in.

    Reports ``probe/video_accuracy``, ``probe/audio_accuracy`` and ``probe/majority``, the accuracy
    of always naming the class most frequent among the fitted clips, all in [0, 1] over the scored
    clips whose class is among the fitted. Nothing with fewer than eight clips on a side, or one class.
    """

    def __init__(
        self,
        fit_clips: FixedClips,
        fit_labels: Sequence[str | None],
        test_clips: FixedClips,
        test_labels: Sequence[str | None],
        every_steps: int,
        precision: Precision = FP32,
    ) -> None:
        if every_steps < 1:
            raise InputError(f"every_steps ({every_steps}) must be at least 1.")
        self.every_steps = every_steps
        self._fit, self._fit_labels = fit_clips, fit_labels
        self._test, self._test_labels = test_clips, test_labels
        self._precision = precision

    def run(self, task: PretrainTask) -> dict[str, float]:
        """Fits and scores; leaves the task in eval mode."""
        fit_labels = _labels_of(self._fit, self._fit_labels)
        known = set(fit_labels) - {None}
        test_labels = [label if label in known else None for label in _labels_of(self._test, self._test_labels)]
        fit, test = _labeled(fit_labels), _labeled(test_labels)
        if min(len(fit), len(test)) < FEWEST or len(known) < 2:
            return {}
        fit_features = encode_clips(task, self._fit, "features", self._precision)
        test_features = encode_clips(task, self._test, "features", self._precision)
        fit_y, test_y = [fit_labels[i] for i in fit], [test_labels[i] for i in test]
        numbers = {"probe/majority": test_y.count(Counter(fit_y).most_common(1)[0][0]) / len(test_y)}
        for name, fit_x, test_x in zip(("video", "audio"), fit_features, test_features, strict=True):
            numbers[f"probe/{name}_accuracy"] = _accuracy(fit_x[fit], fit_y, test_x[test], test_y)
        return numbers

    def observe(self, record: Mapping[str, float]) -> None:
        """Ignore the log."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state, "a probe is fitted anew each time"


def single_label(value: str | None) -> str | None:
    """The label, or None where there is none or there are several."""
    return value if value and "|" not in value else None


def _labels_of(clips: FixedClips, labels: Sequence[str | None]) -> list[str | None]:
    return [single_label(labels[row]) for row in clips.rows().tolist()]


def _labeled(labels: Sequence[str | None]) -> list[int]:
    return [place for place, label in enumerate(labels) if label is not None]


def _accuracy(fit_x: Tensor, fit_y: list[Any], test_x: Tensor, test_y: list[Any]) -> float:
    result = linear_probe(fit_x.numpy(), np.asarray(fit_y), test_x.numpy(), np.asarray(test_y), l2_grid=(L2,))
    return result.accuracy
