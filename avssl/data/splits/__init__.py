"""Divide the rows of a manifest: splits, folds, subsets, and labels as numbers."""

from avssl.data.splits.assignment import SHARES as SHARES
from avssl.data.splits.assignment import assign_splits as assign_splits
from avssl.data.splits.class_folders import ClassFolders as ClassFolders
from avssl.data.splits.class_folders import find_class_folders as find_class_folders
from avssl.data.splits.division import Division as Division
from avssl.data.splits.division import choose_divisions as choose_divisions
from avssl.data.splits.division import divide as divide
from avssl.data.splits.division import has_label as has_label
from avssl.data.splits.division import labeled_rows as labeled_rows
from avssl.data.splits.division import num_several as num_several
from avssl.data.splits.division import num_unlabeled as num_unlabeled
from avssl.data.splits.division import split_rows as split_rows
from avssl.data.splits.folder_labels import check_divided as check_divided
from avssl.data.splits.folder_labels import check_trainable as check_trainable
from avssl.data.splits.folder_labels import choose_shares as choose_shares
from avssl.data.splits.folder_labels import class_table as class_table
from avssl.data.splits.folder_labels import with_folder_labels as with_folder_labels
from avssl.data.splits.labels import Labels as Labels
from avssl.data.splits.labels import encode_labels as encode_labels
from avssl.data.splits.recordings import Recordings as Recordings
from avssl.data.splits.subsets import held_out_rows as held_out_rows
from avssl.data.splits.subsets import label_subset as label_subset
