"""Divide the rows of a manifest: splits, folds, subsets, and labels as numbers."""

from avssl.data.splits.division import Division as Division
from avssl.data.splits.division import choose_divisions as choose_divisions
from avssl.data.splits.division import divide as divide
from avssl.data.splits.division import has_label as has_label
from avssl.data.splits.division import labeled_rows as labeled_rows
from avssl.data.splits.division import num_several as num_several
from avssl.data.splits.division import num_unlabeled as num_unlabeled
from avssl.data.splits.division import split_rows as split_rows
from avssl.data.splits.labels import Labels as Labels
from avssl.data.splits.labels import encode_labels as encode_labels
from avssl.data.splits.recordings import Recordings as Recordings
from avssl.data.splits.subsets import held_out_rows as held_out_rows
from avssl.data.splits.subsets import label_subset as label_subset
