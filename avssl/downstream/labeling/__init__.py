"""Active learning: rank unlabeled clips for annotation, and simulate the strategies."""

from avssl.downstream.labeling.features import MODALITIES, FeatureSettings
from avssl.downstream.labeling.ranking import Ranking, rank_rows
from avssl.downstream.labeling.simulation import simulate, simulation_text, write_simulation

__all__ = [
    "MODALITIES",
    "FeatureSettings",
    "Ranking",
    "rank_rows",
    "simulate",
    "simulation_text",
    "write_simulation",
]
