"""Active learning on files: which rows of a manifest to label next, and whether asking so pays."""

from avssl.downstream.labeling.ranking import Ranking as Ranking
from avssl.downstream.labeling.ranking import rank_rows as rank_rows
from avssl.downstream.labeling.reading import MODALITIES as MODALITIES
from avssl.downstream.labeling.reading import Reading as Reading
from avssl.downstream.labeling.simulation import in_words as in_words
from avssl.downstream.labeling.simulation import simulate as simulate
from avssl.downstream.labeling.simulation import write_simulation as write_simulation
