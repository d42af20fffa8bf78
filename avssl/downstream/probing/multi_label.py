"""Probes of clips that may have several classes, by mean average precision."""

from __future__ import annotations

from functools import partial

import numpy as np

from avssl.downstream.probing.classifiers import pooled_features, unit_rows
from avssl.downstream.probing.protocol import ProbeData, ProbeProtocol, ResultRow
from avssl.evaluation import MultiLabelResult, mean_average_precision, multi_label_knn, multi_label_probe
from avssl.evaluation.multi_label import class_names, label_matrix


def _targets(data: ProbeData) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the classes of the training rows, and the (N, K) and (M, K) bool targets."""
    classes = class_names(data.labels[data.train])
    return classes, label_matrix(data.labels[data.train], classes), label_matrix(data.labels[data.test], classes)


def _row(result: MultiLabelResult, classes: list[str], modality: str) -> ResultRow:
    by_class = {name: float(value) for name, value in zip(classes, result.per_class, strict=True) if value == value}
    return ResultRow({"mAP": result.mean_average_precision}, modality, by_class=by_class)


def _linear(data: ProbeData) -> list[ResultRow]:
    classes, train, test = _targets(data)
    features: dict[str, np.ndarray] = {"video": data.features.video, "audio": data.features.audio}
    results: dict[str, MultiLabelResult] = {
        name: multi_label_probe(
            features[name][data.train], train, features[name][data.test], test, seed=data.settings.seed
        )
        for name in data.settings.modalities
    }
    if len(results) == 2:
        scores = np.mean([result.scores for result in results.values()], axis=0)
        results["video + audio"] = MultiLabelResult(scores, *mean_average_precision(scores, test))
    return [_row(result, classes, name) for name, result in results.items()]


def _knn(data: ProbeData) -> list[ResultRow]:
    classes, train, test = _targets(data)
    settings = data.settings
    features: dict[str, np.ndarray] = {"video": data.features.video, "audio": data.features.audio}
    chosen: dict[str, np.ndarray] = {name: features[name] for name in settings.modalities}
    if len(chosen) == 2:
        chosen["video + audio"] = np.concatenate([unit_rows(x) for x in features.values()], axis=1)
    vote = partial(multi_label_knn, k=settings.neighbors, temperature=settings.temperature or None)
    return [_row(vote(x[data.train], train, x[data.test], test), classes, name) for name, x in chosen.items()]


def _chance(data: ProbeData) -> list[ResultRow]:
    _, _, test = _targets(data)
    return [ResultRow({"mAP": mean_average_precision(np.zeros(test.shape), test)[0]}, model="chance")]


MULTI_LABEL_LINEAR = ProbeProtocol(
    "linear probe on frozen features, a logistic regression for each class; mean probability of both modalities",
    "mAP",
    ("mAP",),
    windows=1,
    extraction=pooled_features,
    measure=_linear,
    baselines=_chance,
    shuffled="labels",
)
MULTI_LABEL_KNN = ProbeProtocol(
    "k nearest neighbors by cosine, weighted by exp(cosine / temperature), that vote for each of their classes",
    "mAP",
    ("mAP",),
    windows=1,
    extraction=pooled_features,
    measure=_knn,
    baselines=_chance,
)
