"""Manifest to batches: windows, clips, bad files, and loaders for training and evaluation."""

from avssl.data.collate import collate
from avssl.data.dataset import ClipDataset
from avssl.data.eval_loader import EvalLoader
from avssl.data.health.indexing import MEDIA_EXTENSIONS, FolderIndex, index_folder, walk_media
from avssl.data.ledger import Failure, Ledger, TooManyBadFiles
from avssl.data.loader import TrainLoader
from avssl.data.sampling import ClipSampling, even_windows, sample_windows, spaced_windows
from avssl.data.splits.subsets import label_subset

__all__ = [
    "MEDIA_EXTENSIONS",
    "ClipDataset",
    "ClipSampling",
    "EvalLoader",
    "Failure",
    "FolderIndex",
    "Ledger",
    "TooManyBadFiles",
    "TrainLoader",
    "collate",
    "even_windows",
    "index_folder",
    "label_subset",
    "sample_windows",
    "spaced_windows",
    "walk_media",
]
