"""Losses over embeddings: one paper, one file, one citation, one reference test.

A new objective costs its file, one line in :data:`OBJECTIVES`, one config and one test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from avssl.core.lazy import load, make_lazy
from avssl.core.registry import build, entry, parameters_of

if TYPE_CHECKING:
    from avssl.core.needs import ObjectiveNeeds as ObjectiveNeeds
    from avssl.objectives.avid import AVID as AVID
    from avssl.objectives.avid import nce_loss as nce_loss
    from avssl.objectives.avid import sampled_softmax_loss as sampled_softmax_loss
    from avssl.objectives.barlow_twins import BarlowTwins as BarlowTwins
    from avssl.objectives.barlow_twins import barlow_twins as barlow_twins
    from avssl.objectives.byol import BYOL as BYOL
    from avssl.objectives.byol import byol_loss as byol_loss
    from avssl.objectives.cav_mae import CavMae as CavMae
    from avssl.objectives.cma import CMA as CMA
    from avssl.objectives.cma import neighbor_precision as neighbor_precision
    from avssl.objectives.cma import positive_sets as positive_sets
    from avssl.objectives.dense_av import DenseAV as DenseAV
    from avssl.objectives.dino import DINO as DINO
    from avssl.objectives.dino import dino_loss as dino_loss
    from avssl.objectives.equivariance import nt_xent as nt_xent
    from avssl.objectives.fnac import FNAC as FNAC
    from avssl.objectives.fnac import foreground as foreground
    from avssl.objectives.framewise import FrameWise as FrameWise
    from avssl.objectives.info_nce import InfoNCE as InfoNCE
    from avssl.objectives.info_nce import info_nce as info_nce
    from avssl.objectives.info_nce import max_info_nce as max_info_nce
    from avssl.objectives.joint import JointSigLIP as JointSigLIP
    from avssl.objectives.lvs import LVS as LVS
    from avssl.objectives.lvs import TriMap as TriMap
    from avssl.objectives.lvs import lvs_scores as lvs_scores
    from avssl.objectives.margin_nce import MarginNCE as MarginNCE
    from avssl.objectives.margin_nce import margin_nce as margin_nce
    from avssl.objectives.memory_bank import MemoryBank as MemoryBank
    from avssl.objectives.memory_bank import MemoryRows as MemoryRows
    from avssl.objectives.mjepa import MJepa as MJepa
    from avssl.objectives.moco import MoCo as MoCo
    from avssl.objectives.objective import Objective as Objective
    from avssl.objectives.patches import masked_patch_loss as masked_patch_loss
    from avssl.objectives.robust_xid import RobustXID as RobustXID
    from avssl.objectives.robust_xid import instance_weights as instance_weights
    from avssl.objectives.robust_xid import soft_targets as soft_targets
    from avssl.objectives.selavi import SeLaVi as SeLaVi
    from avssl.objectives.siglip import SigLIP as SigLIP
    from avssl.objectives.siglip import sigmoid_loss as sigmoid_loss
    from avssl.objectives.sigreg import SigReg as SigReg
    from avssl.objectives.sigreg import sigreg as sigreg
    from avssl.objectives.simsiam import SimSiam as SimSiam
    from avssl.objectives.slavc import SLAVC as SLAVC
    from avssl.objectives.slavc import slavc_scores as slavc_scores
    from avssl.objectives.ssl_tie import SSLTIE as SSLTIE
    from avssl.objectives.swav import SwAV as SwAV
    from avssl.objectives.swav import sinkhorn as sinkhorn
    from avssl.objectives.swav import swapped_prediction as swapped_prediction
    from avssl.objectives.vicreg import VICReg as VICReg
    from avssl.objectives.vicreg import vicreg as vicreg
    from avssl.objectives.xdc import XDC as XDC

OBJECTIVES: dict[str, str] = {
    "avid": "avssl.objectives.avid:AVID",
    "barlow_twins": "avssl.objectives.barlow_twins:BarlowTwins",
    "byol": "avssl.objectives.byol:BYOL",
    "cav_mae": "avssl.objectives.cav_mae:CavMae",
    "cma": "avssl.objectives.cma:CMA",
    "dense_av": "avssl.objectives.dense_av:DenseAV",
    "dino": "avssl.objectives.dino:DINO",
    "fnac": "avssl.objectives.fnac:FNAC",
    "framewise": "avssl.objectives.framewise:FrameWise",
    "info_nce": "avssl.objectives.info_nce:InfoNCE",
    "joint": "avssl.objectives.joint:JointSigLIP",
    "lvs": "avssl.objectives.lvs:LVS",
    "margin_nce": "avssl.objectives.margin_nce:MarginNCE",
    "mjepa": "avssl.objectives.mjepa:MJepa",
    "moco": "avssl.objectives.moco:MoCo",
    "robust_xid": "avssl.objectives.robust_xid:RobustXID",
    "selavi": "avssl.objectives.selavi:SeLaVi",
    "siglip": "avssl.objectives.siglip:SigLIP",
    "sigreg": "avssl.objectives.sigreg:SigReg",
    "simsiam": "avssl.objectives.simsiam:SimSiam",
    "slavc": "avssl.objectives.slavc:SLAVC",
    "ssl_tie": "avssl.objectives.ssl_tie:SSLTIE",
    "swav": "avssl.objectives.swav:SwAV",
    "vicreg": "avssl.objectives.vicreg:VICReg",
    "xdc": "avssl.objectives.xdc:XDC",
}
"""Import path of each objective class by its name in the configuration. A class of another package can be added."""


def create_objective(name: str, **options: Any) -> Objective:
    """Build an objective by name.

    Args:
        name: A key of :data:`OBJECTIVES`.
        **options: Keyword arguments of its class.

    Raises:
        ValueError: If the name, an option or its value is unknown, or what the class needs is missing; says what there
            is.

    Example:
        >>> create_objective("info_nce", temperature=0.1, pooling="max").temperature
        0.1
        >>> rows = MemoryRows.from_ids([f"clip {i}" for i in range(200)])
        >>> len(create_objective("avid", rows=rows, embedding_size=128).bank)
        200
    """
    objective: Objective = build("objective", OBJECTIVES, name, **options)
    return objective


def objective_needs(name: str, options: Mapping[str, Any]) -> ObjectiveNeeds:
    """Return the requirements of an objective with these options; absent ones have their defaults.

    Raises:
        ValueError: If the name is unknown or an option is out of range.

    Example:
        >>> objective_needs("info_nce", {"pooling": "max"}).maps, objective_needs("vicreg", {}).maps
        (True, False)
    """
    cls: type[Objective] = load(entry("objective", OBJECTIVES, name))
    defaults = {option.name: option.default for option in parameters_of(cls).values()}
    return cls.needs_of({**defaults, **options})


make_lazy(__name__)
