"""Active learning: rank unlabeled clips for annotation, and simulate the strategies."""

from avssl.downstream.labeling.features import FeatureSettings as FeatureSettings
from avssl.downstream.labeling.ranking import Ranking as Ranking
from avssl.downstream.labeling.ranking import rank_rows as rank_rows
from avssl.downstream.labeling.simulation import simulate as simulate
from avssl.downstream.labeling.simulation import simulation_text as simulation_text
from avssl.downstream.labeling.simulation import write_simulation as write_simulation
