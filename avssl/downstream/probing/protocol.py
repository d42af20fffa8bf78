"""A probing protocol, its settings, its input and its results.

Dimensions: n readable rows, N of them for training, M of them for testing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.core.ranges import Count, Positive, PositiveOrZero, Seed, checked
from avssl.features.extract import Features
from avssl.hub.pretrained import PretrainedModel
from avssl.training.tasks.probes import ProbeSchedule


@checked
@dataclass(frozen=True)
class ProbeSettings:
    """Settings of all protocols.

    Raises:
        ValueError: If ``modality`` is unknown, or a count is below 1.
    """

    modality: Literal["video", "audio", "both"] = "both"
    """Modality to probe. With `video` or `audio` alone, files without the other stream are used too."""
    windows_per_clip: Count | None = None
    """Evenly spaced windows of each row; the default is the number of the protocol."""
    seed: Seed = 0
    """Random seed."""
    neighbors: Count = 20
    """knn: training clips that vote."""
    temperature: PositiveOrZero = 0.07
    """knn: temperature of the weights exp(cosine / temperature); 0 counts votes."""
    svm_c: Positive = 10.0
    """svm: weight of the hinge losses: 10 for ESC-50, 1 for DCASE 2013."""
    svm_iterations: Count = 200
    """svm: maximum number of solver iterations."""
    pooling: Literal["max", "mean"] = "max"
    """retrieval, layers and attentive: pooling of the feature maps. The svm always averages."""
    detail: Literal["stages", "blocks"] = "stages"
    """layers: probe the last four stages, or every block of the encoders and every layer of the projection heads."""
    clips_per_class: Count = 5
    """av_retrieval: test clips of each class in the gallery."""
    schedule: ProbeSchedule = field(default_factory=ProbeSchedule)
    """layers and attentive: training schedule."""

    def __post_init__(self) -> None:
        if self.modality not in ("video", "audio", "both"):
            raise InputError(f'modality ({self.modality!r}) must be "video", "audio" or "both".')

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities to probe."""
        return ("video", "audio") if self.modality == "both" else (self.modality,)

    @property
    def stream(self) -> Modality | None:
        """The only stream that is read, or None for both."""
        return None if self.modality == "both" else self.modality


@dataclass(frozen=True, eq=False)
class ProbeData:
    """Features and labels of one model under one division of the rows."""

    features: Features
    """Features of n rows."""
    labels: np.ndarray
    """(n,) strings."""
    train: np.ndarray
    """(N,) int64 positions among the n."""
    test: np.ndarray
    """(M,) int64 positions among the n."""
    settings: ProbeSettings
    device: torch.device
    progress: bool = False
    """Show progress bars."""

    def split(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return training values and labels, test values and labels."""
        return values[self.train], self.labels[self.train], values[self.test], self.labels[self.test]

    def with_shuffled_labels(self) -> ProbeData:
        """Return a copy whose training labels are permuted."""
        labels = self.labels.copy()
        labels[self.train] = np.random.default_rng(self.settings.seed).permutation(labels[self.train])
        return replace(self, labels=labels)

    def with_shuffled_audio(self) -> ProbeData:
        """Return a copy in which each test row has the audio of another one."""
        source = np.arange(len(self.labels))
        # A cycle through the rows in random order: no row keeps its own audio.
        order = np.random.default_rng(self.settings.seed).permutation(self.test)
        source[order] = np.roll(order, 1)
        moments = {
            name: values[source] if name == "audio" else values for name, values in self.features.moments.items()
        }
        return replace(self, features=replace(self.features, audio=self.features.audio[source], moments=moments))


@dataclass(frozen=True, eq=False)
class ResultRow:
    """One row of a results table."""

    numbers: dict[str, float]
    """The first one is the headline number."""
    modality: str = ""
    layer: str = ""
    model: str = ""
    """Name of a baseline; empty for the model whose features are probed."""
    per_clip: np.ndarray | None = None
    """(M,) values whose mean is the headline number, for its confidence interval."""
    by_class: dict[str, float] | None = None
    """The headline number of each class, if it is a mean over them."""


@dataclass(frozen=True)
class ProbeProtocol:
    """Feature extraction and measurements of one protocol."""

    title: str
    """Short description with its source."""
    headline: str
    """Name of the first number."""
    columns: tuple[str, ...]
    """Names of the numbers in the table."""
    windows: int
    """Evenly spaced windows of each row, unless the settings say otherwise."""
    extraction: Callable[[PretrainedModel, ProbeSettings], dict[str, Any]]
    """Returns further arguments of :func:`avssl.features.extract.extract_features`."""
    measure: Callable[[ProbeData], list[ResultRow]]
    """Returns the rows of one model."""
    baselines: Callable[[ProbeData], list[ResultRow]]
    """Returns the rows that depend on the labels alone."""
    shuffled: Literal["labels", "audio", ""] = "labels"
    """Shuffled for the control row, which must stay near chance; "" for no control row."""
    gallery: Literal["train", "test", ""] = ""
    """Part that is the gallery of the test queries; "" for protocols without retrieval."""
    choose: Callable[[np.ndarray, np.ndarray, ProbeSettings], np.ndarray] | None = None
    """Returns a mask of the used test rows from their ids and labels; no training row is used then. None uses
    all rows."""
