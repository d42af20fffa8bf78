"""Structure of a corpus from the vectors of its windows: clusters, copies, match of video and audio, suspects."""

from avssl.evaluation.corpus.clustering import cluster as cluster
from avssl.evaluation.corpus.clustering import find_centers as find_centers
from avssl.evaluation.corpus.clustering import label_agreement as label_agreement
from avssl.evaluation.corpus.clustering import medoids as medoids
from avssl.evaluation.corpus.clustering import nearest_centers as nearest_centers
from avssl.evaluation.corpus.copies import CopyPair as CopyPair
from avssl.evaluation.corpus.copies import find_copies as find_copies
from avssl.evaluation.corpus.copies import originals as originals
from avssl.evaluation.corpus.neighbors import NUM_PROBES as NUM_PROBES
from avssl.evaluation.corpus.neighbors import Neighbors as Neighbors
from avssl.evaluation.corpus.neighbors import nearest_neighbors as nearest_neighbors
from avssl.evaluation.corpus.pairing import match_ranks as match_ranks
from avssl.evaluation.corpus.suspects import NUM_NEIGHBORS as NUM_NEIGHBORS
from avssl.evaluation.corpus.suspects import Suspects as Suspects
from avssl.evaluation.corpus.suspects import suspects as suspects
