"""Probes trained by gradient descent on frozen maps: a linear layer on each stage, and an attentive probe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from avssl.downstream.probing.classifiers import classification_baselines, scored_row
from avssl.downstream.probing.protocol import ProbeData, ProbeProtocol, ProbeSettings, ResultRow
from avssl.evaluation import average_clips, top_k_accuracy
from avssl.evaluation.classifier_result import ClassifierResult, classifier_fields
from avssl.evaluation.labeled_features import positions
from avssl.hub.pretrained import PretrainedModel
from avssl.models import StagePooling
from avssl.models.probes import AttentiveProbe, LayerProbes
from avssl.training.tasks.probes import probe_logits, train_probe

BuildProbe = Callable[[dict[str, np.ndarray], int], nn.Module]
"""Builds a probe from (N, W, C, ...) maps by stage and the number of classes."""

_WHOLE_MAP = 2**20
"""Maximum numbers of a map, large enough to keep every cell: 512 channels x 8 x 7 x 7 cells are 200 000."""


_BLOCK_FEATURES = 2048
"""Maximum numbers of a map with all blocks: tens of them then take about as much memory as four stages."""


def _pooled_stages(pretrained: PretrainedModel, settings: ProbeSettings) -> dict[str, Any]:
    pooling = StagePooling(4, settings.pooling)
    if settings.detail == "blocks":
        pooling = StagePooling(None, settings.pooling, _BLOCK_FEATURES, detail="blocks")
    return {"stream": settings.stream, "stages": dict.fromkeys(settings.modalities, pooling)}


def _last_map(pretrained: PretrainedModel, settings: ProbeSettings) -> dict[str, Any]:
    pooling = StagePooling(1, settings.pooling, _WHOLE_MAP, keep_time=True)
    return {"stream": settings.stream, "stages": dict.fromkeys(settings.modalities, pooling)}


def layer_probes(maps: dict[str, np.ndarray], num_classes: int) -> nn.Module:
    """Build BatchNorm and a linear layer for each of the (N, W, C, ...) maps."""
    return LayerProbes({name: value[0, 0].size for name, value in maps.items()}, num_classes)


def attentive_probe(maps: dict[str, np.ndarray], num_classes: int) -> nn.Module:
    """Build an attentive probe for the one (N, W, C, ...) map; up to eight heads, a divisor of its channels."""
    ((_, value),) = maps.items()
    channels = value.shape[2]
    return AttentiveProbe(channels, num_classes, max(heads for heads in range(1, 9) if channels % heads == 0))


def _rows(data: ProbeData, build: BuildProbe) -> list[ResultRow]:
    rows = []
    for modality, maps in data.features.stages.items():
        for layer, (result, top_5) in _train(data, maps, build).items():
            rows.append(scored_row(result, modality, layer, top_5=top_5))
    return rows


def _train(
    data: ProbeData, maps: dict[str, np.ndarray], build: BuildProbe
) -> dict[str, tuple[ClassifierResult, float]]:
    """Train the probe; return its result and top-5 accuracy by stage."""
    classes, truth = np.unique(data.labels[data.train].astype(str), return_inverse=True)
    test_truth = positions(data.labels[data.test].astype(str), classes)
    with torch.random.fork_rng(devices=[]):  # only the initialization draws from it
        torch.manual_seed(data.settings.seed)
        probe = build(maps, len(classes))
    train = {name: value[data.train] for name, value in maps.items()}
    ids = data.features.ids[data.train].tolist()
    schedule, seed = data.settings.schedule, data.settings.seed
    train_probe(probe, train, truth, ids, schedule, seed=seed, device=data.device, progress=data.progress)
    logits = probe_logits(probe, {name: value[data.test] for name, value in maps.items()}, device=data.device)
    found = {}
    for name, values in logits.items():
        scores = average_clips(values)
        result = ClassifierResult(**classifier_fields(scores, test_truth, classes, len(data.train)))
        found[name] = result, top_k_accuracy(scores, test_truth, 5)
    return found


_COLUMNS = ("accuracy", "top_5", "mean_per_class")

LAYERS = ProbeProtocol(
    "BatchNorm and a linear layer on each of the last four stages, or on every block and layer of the head, backbone "
    "frozen, one fixed window per clip and epoch (after AVID's Kinetics probe)",
    "accuracy",
    _COLUMNS,
    windows=10,
    extraction=_pooled_stages,
    measure=lambda data: _rows(data, layer_probes),
    baselines=classification_baselines,
)
ATTENTIVE = ProbeProtocol(
    "one learned query attends to the cells of the last map, backbone frozen (after CAE and V-JEPA)",
    "accuracy",
    _COLUMNS,
    windows=4,
    extraction=_last_map,
    measure=lambda data: _rows(data, attentive_probe),
    baselines=classification_baselines,
)
