"""Classification as a :class:`~avssl.downstream.robustness.measure.Measure`: is a clip's class predicted?

Dimensions: N test clips.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from avssl.core.batch import Modality
from avssl.core.manifest import Manifest
from avssl.data.dataset import ClipDataset
from avssl.downstream.robustness.disturbances import CLEAN, DisturbedFeatures, encode_clips
from avssl.downstream.robustness.measure import ClipScores
from avssl.downstream.robustness.models import BOTH, RobustnessModel
from avssl.downstream.robustness.scores import ClassPredictions
from avssl.transforms.corruptions import Corruption


@dataclass(frozen=True, eq=False)
class Classification:
    """Hits of a classifier; the numbers are accuracies by modality."""

    model: RobustnessModel
    dataset: ClipDataset
    """The N test clips."""
    labels: np.ndarray
    """(N,) int64 true classes, as positions among the model's."""
    disturbed: DisturbedFeatures
    """Features of the clean and the disturbed clips."""
    predictions: ClassPredictions
    """Predicted classes of ``disturbed``."""
    about: dict[str, Any]
    num_workers: int = 0
    progress: bool = False

    @property
    def manifest(self) -> Manifest:
        return self.dataset.manifest

    @property
    def rows(self) -> np.ndarray:
        return np.arange(len(self.labels))

    @property
    def streams(self) -> Mapping[str, Collection[Modality]]:
        streams: dict[str, tuple[Modality, ...]] = {
            "video": ("video",),
            "audio": ("audio",),
            BOTH: ("video", "audio"),
        }
        return {number: streams[number] for number in self.predictions}

    @property
    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        values = {"chance": self.about["chance"], "largest class": self.about["largest_class"]}
        return {name: dict.fromkeys(self.predictions, value) for name, value in values.items()}

    def run(self, corruption: Corruption | None) -> dict[str, np.ndarray]:
        """Return the features of the corrupted modality, (N, windows x views, C); of both if clean."""
        if corruption is None:
            return self.disturbed.features[CLEAN]
        stream = corruption.kind.stream
        found = encode_clips(
            self.model.encode[stream],
            self.dataset,
            corruption,
            windows_per_clip=self.model.windows_per_clip,
            num_workers=self.num_workers,
            device=self.model.device,
            progress=self.progress,
        )
        return {stream: found}

    def scores(self, runs: Mapping[Corruption | None, Mapping[str, np.ndarray]]) -> dict[Corruption | None, ClipScores]:
        predictions, names = self.predictions, {corruption: str(corruption) for corruption in runs}
        names[None] = CLEAN
        if len(runs) > 1:  # all conditions at once, as a linear probe is fitted in each call
            features = {names[corruption]: {**runs[None], **run} for corruption, run in runs.items()}
            predictions = self.model.predict(DisturbedFeatures(features, {}, 0))
        return {
            corruption: {
                number: (predicted[name] == self.labels).astype(np.float64) for number, predicted in predictions.items()
            }
            for corruption, name in names.items()
        }
