"""Manifest to batches: windows, clips, bad files, and loaders for training and evaluation.

The names below are imported when they are first used, so that reading annotation files needs no torch.
"""

from typing import TYPE_CHECKING

from avssl.core.lazy import make_lazy

if TYPE_CHECKING:
    from avssl.data.collate import collate as collate
    from avssl.data.dataset import ClipDataset as ClipDataset
    from avssl.data.eval_loader import EvalLoader as EvalLoader
    from avssl.data.health.indexing import index_folder as index_folder
    from avssl.data.ledger import Failure as Failure
    from avssl.data.ledger import Ledger as Ledger
    from avssl.data.ledger import TooManyBadFiles as TooManyBadFiles
    from avssl.data.loader import TrainLoader as TrainLoader
    from avssl.data.sampling import ClipSampling as ClipSampling
    from avssl.data.sampling import even_windows as even_windows
    from avssl.data.sampling import sample_windows as sample_windows
    from avssl.data.sampling import spaced_windows as spaced_windows

make_lazy(__name__)
