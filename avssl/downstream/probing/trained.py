"""Probes trained by gradient on frozen maps: a linear layer for each stage, and one attending query."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from avssl.downstream.probing.classifiers import classification_baselines, scored_row
from avssl.downstream.probing.part import Measured, Part, Protocol, ProtocolSettings
from avssl.evaluation import average_clips, top_k_accuracy
from avssl.evaluation.scored import Scored, positions, scores_of
from avssl.features.extract import Pretrained
from avssl.models import StagePooling
from avssl.models.probes import AttentiveProbe, LayerProbes
from avssl.training.tasks.probes import probe_logits, train_probe

BuildProbe = Callable[[dict[str, np.ndarray], int], nn.Module]
"""Maps (N, W, C, ...) by stage and the number of classes -> a probe."""

_WHOLE_MAP = 2**20
"""Numbers: any map is kept cell by cell; 512 channels x 8 x 7 x 7 cells are 200 000."""


def _pooled_stages(pretrained: Pretrained, settings: ProtocolSettings) -> dict[str, Any]:
    pooling = StagePooling(4, settings.pooling)
    return {"stream": settings.stream, "stages": dict.fromkeys(settings.modalities, pooling)}


def _last_map(pretrained: Pretrained, settings: ProtocolSettings) -> dict[str, Any]:
    pooling = StagePooling(1, settings.pooling, _WHOLE_MAP, keep_time=True)
    return {"stream": settings.stream, "stages": dict.fromkeys(settings.modalities, pooling)}


def layer_probes(maps: dict[str, np.ndarray], num_classes: int) -> nn.Module:
    """BatchNorm and a linear layer for each of the (N, W, C, ...) maps."""
    return LayerProbes({name: value[0, 0].size for name, value in maps.items()}, num_classes)


def attentive_probe(maps: dict[str, np.ndarray], num_classes: int) -> nn.Module:
    """For the one (N, W, C, ...) map; as many heads, up to eight, as divide its channels."""
    ((_, value),) = maps.items()
    channels = value.shape[2]
    return AttentiveProbe(channels, num_classes, max(heads for heads in range(1, 9) if channels % heads == 0))


def _rows(part: Part, build: BuildProbe) -> list[Measured]:
    rows = []
    for modality, maps in part.features.stages.items():
        for layer, (result, top_5) in _fitted(part, maps, build).items():
            rows.append(scored_row(result, modality, layer, top_5=top_5))
    return rows


def _fitted(part: Part, maps: dict[str, np.ndarray], build: BuildProbe) -> dict[str, tuple[Scored, float]]:
    """Result and top-5 accuracy by stage."""
    classes, truth = np.unique(part.labels[part.train].astype(str), return_inverse=True)
    test_truth = positions(part.labels[part.test].astype(str), classes)
    with torch.random.fork_rng(devices=[]):  # only the initialization draws from it
        torch.manual_seed(part.settings.seed)
        probe = build(maps, len(classes))
    train = {name: value[part.train] for name, value in maps.items()}
    ids = part.features.ids[part.train].tolist()
    schedule, seed = part.settings.schedule, part.settings.seed
    train_probe(probe, train, truth, ids, schedule, seed=seed, device=part.device, progress=part.progress)
    logits = probe_logits(probe, {name: value[part.test] for name, value in maps.items()}, device=part.device)
    found = {}
    for name, values in logits.items():
        scores = average_clips(values)
        result = Scored(**scores_of(scores, test_truth, classes, len(part.train)))
        found[name] = result, top_k_accuracy(scores, test_truth, 5)
    return found


_COLUMNS = ("accuracy", "top_5", "mean_per_class")

LAYERS = Protocol(
    "BatchNorm and a linear layer on each of the last four stages, backbone frozen, one fixed window a clip and pass "
    "(after AVID's Kinetics probe)",
    "accuracy",
    _COLUMNS,
    windows=10,
    extraction=_pooled_stages,
    measure=lambda part: _rows(part, layer_probes),
    baselines=classification_baselines,
)
ATTENTIVE = Protocol(
    "one learned query attends to the cells of the last map, backbone frozen (after CAE and V-JEPA)",
    "accuracy",
    _COLUMNS,
    windows=4,
    extraction=_last_map,
    measure=lambda part: _rows(part, attentive_probe),
    baselines=classification_baselines,
)
