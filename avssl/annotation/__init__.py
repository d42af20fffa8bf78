"""Active learning on files: which rows of a manifest to label next, and whether asking so pays."""

from avssl.annotation.ranking import Ranking as Ranking
from avssl.annotation.ranking import rank_rows as rank_rows
from avssl.annotation.reading import MODALITIES as MODALITIES
from avssl.annotation.reading import Reading as Reading
from avssl.annotation.simulation import in_words as in_words
from avssl.annotation.simulation import simulate as simulate
from avssl.annotation.simulation import write_simulation as write_simulation
