"""Embeddings → one loss: one paper, one file, one citation, one reference test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avssl.core.errors import InputError
from avssl.objectives.avid import AVID, nce_loss, sampled_softmax_loss
from avssl.objectives.cma import CMA, neighbor_precision, positive_sets
from avssl.objectives.dense_av import DenseAV
from avssl.objectives.fnac import FNAC, foreground
from avssl.objectives.info_nce import InfoNCE, info_nce, max_info_nce
from avssl.objectives.lvs import LVS, TriMap, lvs_scores
from avssl.objectives.margin_nce import MarginNCE, margin_nce
from avssl.objectives.memory_bank import MemoryBank, MemoryRows
from avssl.objectives.moco import MoCo
from avssl.objectives.objective import Objective
from avssl.objectives.robust_xid import RobustXID, instance_weights, soft_targets
from avssl.objectives.siglip import SigLIP, sigmoid_loss
from avssl.objectives.slavc import SLAVC, slavc_scores
from avssl.objectives.ssl_tie import SSLTIE

_OBJECTIVES: dict[str, type[Objective]] = {
    "avid": AVID,
    "cma": CMA,
    "dense_av": DenseAV,
    "fnac": FNAC,
    "info_nce": InfoNCE,
    "lvs": LVS,
    "margin_nce": MarginNCE,
    "moco": MoCo,
    "robust_xid": RobustXID,
    "siglip": SigLIP,
    "slavc": SLAVC,
    "ssl_tie": SSLTIE,
}

__all__ = [
    "AVID",
    "CMA",
    "FNAC",
    "LVS",
    "SLAVC",
    "SSLTIE",
    "DenseAV",
    "InfoNCE",
    "MarginNCE",
    "MemoryBank",
    "MemoryRows",
    "MoCo",
    "Objective",
    "RobustXID",
    "SigLIP",
    "TriMap",
    "create_objective",
    "extra_heads",
    "foreground",
    "holds_embeddings",
    "info_nce",
    "initial_logits",
    "instance_weights",
    "lvs_scores",
    "margin_nce",
    "max_info_nce",
    "model_options",
    "nce_loss",
    "neighbor_precision",
    "objective_names",
    "positive_sets",
    "sampled_softmax_loss",
    "sigmoid_loss",
    "slavc_scores",
    "soft_targets",
]


def objective_names() -> list[str]:
    """The names :func:`create_objective` knows."""
    return sorted(_OBJECTIVES)


def create_objective(name: str, **options: Any) -> Objective:
    """An objective by name.

    Args:
        name: One of :func:`objective_names`.
        **options: The keyword arguments of its class.

    Raises:
        ValueError: If there is no such name.

    Example:
        >>> create_objective("info_nce", temperature=0.1, pooling="max")
    """
    return _objective_class(name)(**options)


def initial_logits(name: str, options: Mapping[str, Any]) -> dict[str, float]:
    """What the model must learn for an objective's logits; see :meth:`Objective.initial_logits`.

    Raises:
        ValueError: If there is no such name.
    """
    return _objective_class(name).initial_logits(options)


def model_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What else the model must be built with; see :meth:`Objective.model_options`.

    Raises:
        ValueError: If there is no such name.
    """
    return _objective_class(name).model_options(options)


def extra_heads(name: str) -> tuple[str, ...]:
    """The further pairs of heads that the model of an objective carries; see :attr:`Objective.heads`.

    Raises:
        ValueError: If there is no such name.
    """
    return _objective_class(name).heads


def holds_embeddings(name: str) -> bool:
    """Whether an objective takes ``embedding_size``, that of the model, among its options.

    Raises:
        ValueError: If there is no such name.
    """
    return _objective_class(name).holds_embeddings


def _objective_class(name: str) -> type[Objective]:
    if name not in _OBJECTIVES:
        raise InputError(f"objective {name!r} does not exist; there is {', '.join(objective_names())}.")
    return _OBJECTIVES[name]
