"""What a protocol is, and what it is given.

Dimensions: n readable rows, N of them fitted on, M of them scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from avssl.core.errors import InputError
from avssl.features.extract import Features, Pretrained
from avssl.models import Modality
from avssl.training.tasks.probes import ProbeSchedule


@dataclass(frozen=True)
class ProtocolSettings:
    """Every number that a protocol may want.

    Raises:
        ValueError: If ``modality`` is unknown, or a count is below 1.
    """

    modality: Literal["video", "audio", "all"] = "all"
    """What is measured. With one of the two, files without the other are good files."""
    windows_per_clip: int | None = None
    """Evenly spaced windows of each row; by default as many as the protocol wants."""
    seed: int = 0
    """Of every draw."""
    neighbors: int = 20
    """For knn: training clips that vote."""
    temperature: float = 0.07
    """For knn: of the weights exp(cosine / temperature); 0 counts votes."""
    svm_c: float = 10.0
    """For svm: weight of the hinge losses: 10 for ESC-50, 1 for DCASE 2013."""
    svm_iterations: int = 200
    """For svm: most iterations of the solver."""
    pooling: Literal["max", "average"] = "max"
    """For retrieval, layers and attentive: how a map's cells are joined. The svm always averages."""
    clips_per_class: int = 5
    """For av_retrieval: clips of each class in the set."""
    schedule: ProbeSchedule = field(default_factory=ProbeSchedule)
    """For layers and attentive: how they are trained."""

    def __post_init__(self) -> None:
        if self.modality not in ("video", "audio", "all"):
            raise InputError(f'modality ({self.modality!r}) must be "video", "audio" or "all".')
        for name in ("windows_per_clip", "neighbors", "svm_iterations", "clips_per_class"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise InputError(f"{name} ({count}) must be at least 1.")

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those that are measured."""
        return ("video", "audio") if self.modality == "all" else (self.modality,)

    @property
    def stream(self) -> Modality | None:
        """The only one that is read, or None for both."""
        return None if self.modality == "all" else self.modality


@dataclass(frozen=True, eq=False)
class Part:
    """Features and labels of one model, divided once."""

    features: Features
    """Of n rows."""
    labels: np.ndarray
    """(n,) strings."""
    train: np.ndarray
    """(N,) int64 positions among the n."""
    test: np.ndarray
    """(M,) int64 positions among the n."""
    settings: ProtocolSettings
    device: torch.device
    progress: bool = False
    """Show bars."""

    def split(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Train values and labels, test values and labels: what every classifier takes, in this order."""
        return values[self.train], self.labels[self.train], values[self.test], self.labels[self.test]

    def with_shuffled_labels(self) -> Part:
        """The labels of the training rows exchanged among them."""
        labels = self.labels.copy()
        labels[self.train] = np.random.default_rng(self.settings.seed).permutation(labels[self.train])
        return replace(self, labels=labels)

    def with_shuffled_sound(self) -> Part:
        """The sound of each test row is that of another one."""
        moved = np.arange(len(self.labels))
        # A cycle through the rows in random order: no row keeps its own.
        order = np.random.default_rng(self.settings.seed).permutation(self.test)
        moved[order] = np.roll(order, 1)
        return replace(self, features=replace(self.features, audio=self.features.audio[moved]))


@dataclass(frozen=True, eq=False)
class Measured:
    """One row of a table."""

    numbers: dict[str, float]
    """The first is the headline."""
    modality: str = ""
    layer: str = ""
    model: str = ""
    """Of a baseline: its name; otherwise it is known from where the features came."""
    per_clip: np.ndarray | None = None
    """(M,) values whose mean is the headline, for its interval."""


@dataclass(frozen=True)
class Protocol:
    """How features are made and what is measured on them."""

    title: str
    """What it is, in a few words, with its source."""
    headline: str
    """Name of the first number."""
    columns: tuple[str, ...]
    """Names of the numbers that the table shows."""
    windows: int
    """Evenly spaced windows of each row, unless the settings say otherwise."""
    extraction: Callable[[Pretrained, ProtocolSettings], dict[str, Any]]
    """Further arguments of :func:`avssl.features.extract.extract_features`."""
    measure: Callable[[Part], list[Measured]]
    """The rows of one model."""
    baselines: Callable[[Part], list[Measured]]
    """The rows that no model has a part in."""
    shuffled: Literal["labels", "sound", ""] = "labels"
    """What is shuffled for the row that a cheating measure would not notice; "" for none."""
    gallery: Literal["train", "test", ""] = ""
    """Which rows are the gallery that scored rows are queried in; "" where there is none."""
    choose: Callable[[np.ndarray, np.ndarray, ProtocolSettings], np.ndarray] | None = None
    """Which rows take part, from the ids and the labels of the test rows: a mask. None for all, training rows too."""
