"""Accuracy of a linear probe during training, which uses no labels."""

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
"""Weight of ``|W|^2 / 2``. One value is enough, because the probe shows a trend and is no result."""
MIN_CLIPS = 8
"""Minimum number of clips for fitting and for testing."""


Labels = Sequence[str | None] | Mapping[int, str | None]
"""Label of each row, or of some rows by their number."""


NUMBERS = ("probe/majority", "probe/video_accuracy", "probe/audio_accuracy")
"""Names of the numbers of a probe."""


class ProbeMonitor:
    """Fits a linear probe on frozen features at each measurement. Training never uses its labels.

    Args:
        fit_clips: Clips on which the probe is fitted.
        fit_labels: Label of each of their rows in the manifest. Rows with no label (None or "") or with several,
            joined by ``|``, are left out.
        test_clips: Clips on which the probe is tested.
        test_labels: Label of each of their rows in the manifest.
        every_steps: Steps between measurements, >= 1.
        precision: Precision in which the model is trained.

    Numbers: ``probe/video_accuracy``, ``probe/audio_accuracy`` and ``probe/majority``, the accuracy of the
    most frequent class of the fitted clips, all in [0, 1], over the test clips whose class was fitted.
    There are none with one class, or fewer than eight clips to fit or to test.
    """

    def __init__(
        self,
        fit_clips: FixedClips,
        fit_labels: Labels,
        test_clips: FixedClips,
        test_labels: Labels,
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
        """Fit and test the probe; leaves the task in eval mode."""
        fit_labels = _labels_of(self._fit, self._fit_labels)
        known = set(fit_labels) - {None}
        test_labels = [label if label in known else None for label in _labels_of(self._test, self._test_labels)]
        fit, test = _labeled(fit_labels), _labeled(test_labels)
        if min(len(fit), len(test)) < MIN_CLIPS or len(known) < 2:
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
    """Return the label, or None if there is none or there are several."""
    return value if value and "|" not in value else None


def _labels_of(clips: FixedClips, labels: Labels) -> list[str | None]:
    return [single_label(labels[row]) for row in clips.rows().tolist()]


def _labeled(labels: Sequence[str | None]) -> list[int]:
    return [place for place, label in enumerate(labels) if label is not None]


def _accuracy(fit_x: Tensor, fit_y: list[Any], test_x: Tensor, test_y: list[Any]) -> float:
    result = linear_probe(fit_x.numpy(), np.asarray(fit_y), test_x.numpy(), np.asarray(test_y), l2_grid=(L2,))
    return result.accuracy
