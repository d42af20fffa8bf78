"""Retrieval: videos by their class, and pictures by sounds of their class."""

from __future__ import annotations

from typing import Any

import numpy as np

from avssl.core.errors import InputError
from avssl.data.splits.label_subset import label_subset
from avssl.downstream.probing.part import Measured, Part, Protocol, ProtocolSettings
from avssl.evaluation import (
    RETRIEVAL_KS,
    LabelRetrieval,
    chance_average_precision,
    class_retrieval,
    label_retrieval,
)
from avssl.features.extract import Pretrained
from avssl.models import StagePooling

_CELLS = 8
"""2 x 2 x 2 of a video's map, 2 x 2 of a sound's."""


def _two_cells_an_axis(pretrained: Pretrained, settings: ProtocolSettings) -> dict[str, Any]:
    encoders = {"video": pretrained.model.video_encoder, "audio": pretrained.model.audio_encoder}
    pools = {
        name: StagePooling(1, settings.pooling, _CELLS * encoders[name].num_features, keep_time=True)
        for name in settings.modalities
    }
    return {"stream": settings.stream, "stages": pools}


def _retrieved(part: Part, windows: np.ndarray) -> LabelRetrieval:
    return label_retrieval(*part.split(windows.reshape(*windows.shape[:2], -1)))


def _retrieval(part: Part) -> list[Measured]:
    rows = []
    for modality, stages in part.features.stages.items():
        for layer, maps in stages.items():
            found = _retrieved(part, maps)
            numbers = {f"R@{k}": value for k, value in found.recall.items()}
            rows.append(Measured(numbers, modality, layer, per_clip=found.hits[RETRIEVAL_KS[0]]))
    return rows


def _retrieval_chance(part: Part) -> list[Measured]:
    """Chance depends on the labels alone, so any features will do."""
    found = _retrieved(part, np.ones((len(part.labels), 1, 1)))
    return [Measured({f"R@{k}": value for k, value in found.chance.items()}, model="chance")]


def _embeddings(pretrained: Pretrained, settings: ProtocolSettings) -> dict[str, Any]:
    if settings.modality != "all":
        raise InputError(f'modality ({settings.modality!r}) must be "all" where sounds query pictures.')
    return {"what": "embeddings"}


def _balanced(ids: np.ndarray, labels: np.ndarray, settings: ProtocolSettings) -> np.ndarray:
    names, counts = np.unique(labels.astype(str), return_counts=True)
    rarest, wanted = counts.argmin(), settings.clips_per_class
    if counts[rarest] < wanted:
        raise InputError(
            f"clips_per_class ({wanted}): the class {str(names[rarest])!r} has only {counts[rarest]} test clips. "
            "Ask for fewer with --clips_per_class."
        )
    return label_subset(ids, labels, per_class=wanted, seed=settings.seed)


def _av_retrieval(part: Part) -> list[Measured]:
    video, audio = part.features.video[part.test], part.features.audio[part.test]
    labels = part.labels[part.test]
    rows = []
    for name, queries, gallery in (("video -> audio", video, audio), ("audio -> video", audio, video)):
        found = class_retrieval(queries, gallery, labels, ks=_PLACES)
        numbers = {"mAP": found.mean_average_precision}
        numbers |= {f"P@{k}": float(values.mean()) for k, values in found.precision.items()}
        rows.append(Measured(numbers, name, per_clip=found.average_precision))
    return rows


def _av_chance(part: Part) -> list[Measured]:
    labels = part.labels[part.test]
    _, counts = np.unique(labels.astype(str), return_counts=True)
    size = len(labels)
    # A class of n clips asks n queries, each with n right items among all.
    chance = sum(int(n) * chance_average_precision(int(n), size) for n in counts) / size
    precision = float((counts.astype(float) ** 2).sum() / size**2)
    return [Measured({"mAP": chance} | {f"P@{k}": precision for k in _PLACES}, model="chance")]


_PLACES = (1, 5)

RETRIEVAL = Protocol(
    "test clips query training clips by the last map in 2 x 2 (x 2) cells, Euclidean; a hit if any of k has the label "
    "(as in SeLaVi)",
    "R@1",
    tuple(f"R@{k}" for k in RETRIEVAL_KS),
    windows=10,
    extraction=_two_cells_an_axis,
    measure=_retrieval,
    baselines=_retrieval_chance,
    gallery="train",
)
AV_RETRIEVAL = Protocol(
    "sounds query pictures of as many clips of each class, by cosine of embeddings, and back; right is the class",
    "mAP",
    ("mAP", *(f"P@{k}" for k in _PLACES)),
    windows=1,
    extraction=_embeddings,
    measure=_av_retrieval,
    baselines=_av_chance,
    shuffled="sound",
    gallery="test",
    choose=_balanced,
)
