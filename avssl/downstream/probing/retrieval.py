"""Retrieval by class within a modality and between video and audio, and of a clip's own other modality by moments."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from avssl.core.errors import InputError
from avssl.core.moments import at_moments
from avssl.data.splits import label_subset
from avssl.downstream.probing.protocol import ProbeData, ProbeProtocol, ProbeSettings, ResultRow
from avssl.evaluation import (
    AGGREGATIONS,
    RETRIEVAL_KS,
    LabelRetrieval,
    chance_average_precision,
    class_retrieval,
    label_retrieval,
    moment_similarity,
)
from avssl.evaluation.retrieval import hit_probability, ranks_of_scores
from avssl.hub.pretrained import PretrainedModel
from avssl.models import StagePooling

_CELLS = 8
"""Cells of a pooled map: 2 x 2 x 2 for video; audio maps have 2 x 2."""


def _two_cells_an_axis(pretrained: PretrainedModel, settings: ProbeSettings) -> dict[str, Any]:
    encoders = {"video": pretrained.model.video_encoder, "audio": pretrained.model.audio_encoder}
    pools = {
        name: StagePooling(1, settings.pooling, _CELLS * encoders[name].num_features, keep_time=True)
        for name in settings.modalities
    }
    return {"stream": settings.stream, "stages": pools}


def _retrieved(data: ProbeData, windows: np.ndarray) -> LabelRetrieval:
    return label_retrieval(*data.split(windows.reshape(*windows.shape[:2], -1)))


def _retrieval(data: ProbeData) -> list[ResultRow]:
    rows = []
    for modality, stages in data.features.stages.items():
        for layer, maps in stages.items():
            found = _retrieved(data, maps)
            numbers = {f"R@{k}": value for k, value in found.recall.items()}
            rows.append(ResultRow(numbers, modality, layer, per_clip=found.hits[RETRIEVAL_KS[0]]))
    return rows


def _retrieval_chance(data: ProbeData) -> list[ResultRow]:
    """Compute chance, which depends on the labels alone, from constant features."""
    found = _retrieved(data, np.ones((len(data.labels), 1, 1)))
    return [ResultRow({f"R@{k}": value for k, value in found.chance.items()}, model="chance")]


def _embeddings(pretrained: PretrainedModel, settings: ProbeSettings) -> dict[str, Any]:
    if settings.modality != "both":
        raise InputError(f'modality ({settings.modality!r}) must be "both" for av_retrieval.')
    return {"what": "embeddings"}


def _balanced(ids: np.ndarray, labels: np.ndarray, settings: ProbeSettings) -> np.ndarray:
    names, counts = np.unique(labels.astype(str), return_counts=True)
    rarest, wanted = counts.argmin(), settings.clips_per_class
    if counts[rarest] < wanted:
        raise InputError(
            f"clips_per_class ({wanted}): the class {str(names[rarest])!r} has only {counts[rarest]} test clips. "
            "Lower --clips-per-class."
        )
    return label_subset(ids, labels, per_class=wanted, seed=settings.seed)


def _av_retrieval(data: ProbeData) -> list[ResultRow]:
    video, audio = data.features.video[data.test], data.features.audio[data.test]
    labels = data.labels[data.test]
    rows = []
    for name, queries, gallery in (("video -> audio", video, audio), ("audio -> video", audio, video)):
        found = class_retrieval(queries, gallery, labels, ks=_RANKS)
        numbers = {"mAP": found.mean_average_precision}
        numbers |= {f"P@{k}": float(values.mean()) for k, values in found.precision.items()}
        rows.append(ResultRow(numbers, name, per_clip=found.average_precision))
    return rows


def _av_chance(data: ProbeData) -> list[ResultRow]:
    labels = data.labels[data.test]
    _, counts = np.unique(labels.astype(str), return_counts=True)
    size = len(labels)
    # A class of n clips gives n queries, each with n correct items in the gallery.
    chance = sum(int(n) * chance_average_precision(int(n), size) for n in counts) / size
    precision = float((counts.astype(float) ** 2).sum() / size**2)
    return [ResultRow({"mAP": chance} | {f"P@{k}": precision for k in _RANKS}, model="chance")]


def _moments(pretrained: PretrainedModel, settings: ProbeSettings) -> dict[str, Any]:
    if settings.modality != "both":
        raise InputError(f'modality ({settings.modality!r}) must be "both" for moments.')
    return {"what": "embeddings", "moments": True}


def _all_test_rows(ids: np.ndarray, labels: np.ndarray, settings: ProbeSettings) -> np.ndarray:
    return np.ones(len(ids), dtype=bool)


def _own_clip(data: ProbeData) -> list[ResultRow]:
    """Return a row for each direction and aggregation, and for the pooled embeddings."""
    video, audio = (torch.from_numpy(data.features.moments[name][data.test]) for name in ("video", "audio"))
    length = max(video.shape[2], audio.shape[2])
    # Windows one after the other are one sequence of moments.
    video, audio = (x[:, :, at_moments(x.shape[2], length)].flatten(1, 2) for x in (video, audio))
    pooled = [F.normalize(torch.from_numpy(x[data.test]), dim=1) for x in (data.features.video, data.features.audio)]
    scores: dict[str, torch.Tensor] = {"pooled": pooled[0] @ pooled[1].T}
    scores |= {name: moment_similarity(video, audio, name) for name in AGGREGATIONS}
    rows = []
    for name, each in scores.items():
        for direction, similarity in (("video -> audio", each), ("audio -> video", each.T)):
            better, tied = ranks_of_scores(similarity)
            numbers = {f"R@{k}": hit_probability(better, tied, k).mean().item() for k in _MOMENT_RANKS}
            hits = hit_probability(better, tied, _MOMENT_RANKS[0]).numpy()
            rows.append(ResultRow(numbers, direction, name, per_clip=hits))
    return rows


def _own_chance(data: ProbeData) -> list[ResultRow]:
    return [ResultRow({f"R@{k}": min(1.0, k / len(data.test)) for k in _MOMENT_RANKS}, model="chance")]


_RANKS = (1, 5)
_MOMENT_RANKS = (1, 5, 10)

RETRIEVAL = ProbeProtocol(
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
AV_RETRIEVAL = ProbeProtocol(
    "audio queries video among the same number of clips of each class, by cosine of embeddings, and the reverse; "
    "a hit has the class of the query",
    "mAP",
    ("mAP", *(f"P@{k}" for k in _RANKS)),
    windows=1,
    extraction=_embeddings,
    measure=_av_retrieval,
    baselines=_av_chance,
    shuffled="audio",
    gallery="test",
    choose=_balanced,
)
MOMENTS = ProbeProtocol(
    "the audio of a test clip is to find its own video among all test clips, and the reverse, by the cosines of each "
    "frame with the audio of each time (as in CAV-MAE Sync), and by pooled embeddings",
    "R@1",
    tuple(f"R@{k}" for k in _MOMENT_RANKS),
    windows=1,
    extraction=_moments,
    measure=_own_clip,
    baselines=_own_chance,
    shuffled="audio",
    gallery="test",
    choose=_all_test_rows,
)
