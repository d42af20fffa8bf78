"""Classifiers with a closed fit on frozen features: linear probe, nearest neighbors, SVM."""

from __future__ import annotations

from typing import Any

import numpy as np
from tqdm import tqdm

from avssl.downstream.probing.part import Measured, Part, Protocol, ProtocolSettings
from avssl.evaluation import Scored, knn_classifier, linear_probe, modality_probes, svm_classifier
from avssl.features.extract import Pretrained
from avssl.models import StagePooling


def pooled_features(pretrained: Pretrained, settings: ProtocolSettings) -> dict[str, Any]:
    """Features of the last layer, averaged over the windows."""
    return {"stream": settings.stream}


def classification_baselines(part: Part) -> list[Measured]:
    """Always the largest test class, and one class drawn evenly."""
    _, counts = np.unique(part.labels[part.test].astype(str), return_counts=True)
    classes = len(np.unique(part.labels[part.train].astype(str)))
    return [
        Measured({"accuracy": float(counts.max() / counts.sum())}, model="largest class"),
        Measured({"accuracy": 1 / classes}, model="chance"),
    ]


def scored_row(result: Scored, modality: str, layer: str = "", **more: float) -> Measured:
    """A row of accuracy and mean recall of the classes."""
    numbers = {"accuracy": result.accuracy, "mean_per_class": result.mean_per_class, **more}
    return Measured(numbers, modality, layer, per_clip=result.correct.astype(float))


def _linear(part: Part) -> list[Measured]:
    sides = {"video": part.features.video, "audio": part.features.audio}
    seed = part.settings.seed
    if part.settings.modality == "all":
        found = modality_probes(sides["video"], sides["audio"], part.labels, part.train, part.test, seed=seed)
    else:
        chosen = part.settings.modality
        found = {chosen: linear_probe(*part.split(sides[chosen]), seed=seed)}
    return [scored_row(result, name, l2=result.l2) for name, result in found.items()]


def _knn(part: Part) -> list[Measured]:
    settings = part.settings
    sides = {"video": part.features.video, "audio": part.features.audio}
    chosen = {name: sides[name] for name in settings.modalities}
    if len(chosen) == 2:  # unit vectors side by side: the cosine of a pair is the mean of the two cosines
        chosen["video + audio"] = np.concatenate([_unit(sides["video"]), _unit(sides["audio"])], axis=1)  # type: ignore[index]
    temperature = settings.temperature or None
    return [
        scored_row(knn_classifier(*part.split(x), k=settings.neighbors, temperature=temperature), name)
        for name, x in chosen.items()
    ]


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def averaged_stages(pretrained: Pretrained, settings: ProtocolSettings) -> dict[str, Any]:
    """The last four stages in grids of at most 9 216 numbers, averaged."""
    return {"stream": settings.stream, "stages": {name: StagePooling(4, "average") for name in settings.modalities}}


def _svm(part: Part) -> list[Measured]:
    """AVID's protocol but for the fitted windows: the same evenly spaced ones as in the test, as they sound, where
    AVID draws them at random, at another volume and rate, and lets them wrap around the file."""
    settings = part.settings
    places = [(modality, layer) for modality, stages in part.features.stages.items() for layer in stages]
    rows = []
    for modality, layer in tqdm(places, desc="svm", unit="stage", delay=1.0, disable=not part.progress):
        maps = part.features.stages[modality][layer]
        windows = maps.reshape(*maps.shape[:2], -1)
        result = svm_classifier(
            *part.split(windows), c=settings.svm_c, max_iterations=settings.svm_iterations, seed=settings.seed
        )
        rows.append(scored_row(result, modality, layer, converged=float(result.converged)))
    return rows


_ACCURACIES = ("accuracy", "mean_per_class")

LINEAR = Protocol(
    "linear probe on frozen features, multinomial logistic regression; both by late fusion",
    "accuracy",
    _ACCURACIES,
    windows=1,
    extraction=pooled_features,
    measure=_linear,
    baselines=classification_baselines,
    shuffled="labels",
)
KNN = Protocol(
    "k nearest neighbors by cosine, weighted by exp(cosine / temperature) (Wu et al., 2018)",
    "accuracy",
    _ACCURACIES,
    windows=1,
    extraction=pooled_features,
    measure=_knn,
    baselines=classification_baselines,
)
SVM = Protocol(
    "one-vs-rest linear SVM on average-pooled stages, decision values averaged over evenly spaced windows "
    "(after AVID's of ESC-50 and DCASE, which fits random windows, louder or faster)",
    "accuracy",
    (*_ACCURACIES, "converged"),
    windows=10,
    extraction=averaged_stages,
    measure=_svm,
    baselines=classification_baselines,
)
