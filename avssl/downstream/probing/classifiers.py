"""Classifiers fitted on frozen features by a solver: linear probe, nearest neighbors, SVM."""

from __future__ import annotations

from typing import Any

import numpy as np

from avssl.core.progress import Bar
from avssl.downstream.probing.protocol import ProbeData, ProbeProtocol, ProbeSettings, ResultRow
from avssl.evaluation import ClassifierResult, knn_classifier, linear_probe, modality_probes, svm_classifier
from avssl.hub.pretrained import PretrainedModel
from avssl.models import StagePooling


def pooled_features(pretrained: PretrainedModel, settings: ProbeSettings) -> dict[str, Any]:
    """Extract features of the last layer, averaged over the windows."""
    return {"stream": settings.stream}


def classification_baselines(data: ProbeData) -> list[ResultRow]:
    """Return the accuracy of always predicting the largest test class, and of a random class."""
    _, counts = np.unique(data.labels[data.test].astype(str), return_counts=True)
    classes = len(np.unique(data.labels[data.train].astype(str)))
    return [
        ResultRow({"accuracy": float(counts.max() / counts.sum())}, model="largest class"),
        ResultRow({"accuracy": 1 / classes}, model="chance"),
    ]


def scored_row(result: ClassifierResult, modality: str, layer: str = "", **more: float) -> ResultRow:
    """Return a row of accuracy and mean recall of the classes."""
    numbers = {"accuracy": result.accuracy, "mean_per_class": result.mean_per_class, **more}
    return ResultRow(numbers, modality, layer, per_clip=result.correct.astype(float))


def _linear(data: ProbeData) -> list[ResultRow]:
    features = {"video": data.features.video, "audio": data.features.audio}
    seed = data.settings.seed
    if data.settings.modality == "both":
        results = modality_probes(features["video"], features["audio"], data.labels, data.train, data.test, seed=seed)
    else:
        chosen = data.settings.modality
        results = {chosen: linear_probe(*data.split(features[chosen]), seed=seed)}
    results |= {name: linear_probe(*split, seed=seed) for name, split in joint_splits(data).items()}
    return [scored_row(result, name, l2=result.l2) for name, result in results.items()]


def joint_splits(data: ProbeData) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Return training values and labels, test values and labels of joint embeddings; none without a joint head.

    Test clips have both modalities or one of them, for one classifier, which was fitted on both if both are read.
    """
    joint = data.features.joint
    if "joint" not in joint:
        return {f"{name} alone": data.split(values) for name, values in joint.items()}
    train, labels, test, test_labels = data.split(joint["joint"])
    alone = {f"{name} alone": values for name, values in joint.items() if name != "joint"}
    found = {name: (train, labels, values[data.test], test_labels) for name, values in alone.items()}
    return {"joint": (train, labels, test, test_labels)} | found


def _knn(data: ProbeData) -> list[ResultRow]:
    settings = data.settings
    features = {"video": data.features.video, "audio": data.features.audio}
    chosen = {name: features[name] for name in settings.modalities}
    if len(chosen) == 2:  # unit vectors side by side: the cosine of a pair is the mean of the two cosines
        chosen["video + audio"] = np.concatenate([unit_rows(features["video"]), unit_rows(features["audio"])], axis=1)  # type: ignore[index]
    splits = {name: data.split(x) for name, x in chosen.items()} | joint_splits(data)
    temperature = settings.temperature or None
    return [
        scored_row(knn_classifier(*split, k=settings.neighbors, temperature=temperature), name)
        for name, split in splits.items()
    ]


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; rows of zeros stay."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def averaged_stages(pretrained: PretrainedModel, settings: ProbeSettings) -> dict[str, Any]:
    """Extract the last four stages, average-pooled to grids of at most 9 216 numbers."""
    return {"stream": settings.stream, "stages": {name: StagePooling(4, "mean") for name in settings.modalities}}


def _svm(data: ProbeData) -> list[ResultRow]:
    """Run AVID's protocol with one difference: training windows are evenly spaced and unchanged, as in the test.

    AVID draws them at random, changes volume and speed, and lets them wrap around the end of the file.
    """
    settings = data.settings
    stages = [(modality, layer) for modality, maps in data.features.stages.items() for layer in maps]
    rows = []
    for modality, layer in Bar(stages, desc="svm", unit="stage", delay=1.0, show=data.progress):
        maps = data.features.stages[modality][layer]
        windows = maps.reshape(*maps.shape[:2], -1)
        result = svm_classifier(
            *data.split(windows), c=settings.svm_c, max_iterations=settings.svm_iterations, seed=settings.seed
        )
        rows.append(scored_row(result, modality, layer, converged=float(result.converged)))
    return rows


_ACCURACIES = ("accuracy", "mean_per_class")

LINEAR = ProbeProtocol(
    "linear probe on frozen features, multinomial logistic regression; late fusion of both modalities",
    "accuracy",
    _ACCURACIES,
    windows=1,
    extraction=pooled_features,
    measure=_linear,
    baselines=classification_baselines,
    shuffled="labels",
)
KNN = ProbeProtocol(
    "k nearest neighbors by cosine, weighted by exp(cosine / temperature) (Wu et al., 2018)",
    "accuracy",
    _ACCURACIES,
    windows=1,
    extraction=pooled_features,
    measure=_knn,
    baselines=classification_baselines,
)
SVM = ProbeProtocol(
    "one-vs-rest linear SVM on average-pooled stages, decision values averaged over evenly spaced windows "
    "(after AVID's protocol for ESC-50 and DCASE, which trains on random windows, louder or faster)",
    "accuracy",
    (*_ACCURACIES, "converged"),
    windows=10,
    extraction=averaged_stages,
    measure=_svm,
    baselines=classification_baselines,
)
