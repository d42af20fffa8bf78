import numpy as np
import pytest
import torch

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits.labels import choose_fold, find_folds, has_label, number_labels

COLUMNS = {
    "label": ["b", "a", "a|b", None, "b", "a", "", "c"],
    "split": ["train", "train", "train", "train", "test", "test", "test", "unused"],
    "fold": ["9", "10", "9", "10", "10", "9", "9", "10"],
}


@pytest.fixture
def manifest():
    names = [f"{i}.mp4" for i in range(8)]
    return Manifest.from_columns({"id": names, "path": names, **COLUMNS}, "/x")


def test_rows_with_a_label(manifest):
    assert has_label(manifest, "label").tolist() == [True, True, False, False, True, True, False, True]
    assert np.flatnonzero(~has_label(manifest, "label", multi_label=True)).tolist() == [3, 6]


def test_a_split_column_is_a_fold(manifest):
    (fold,) = find_folds(manifest, has_label(manifest, "label"))
    assert (fold.name, fold.pool.tolist(), fold.train.tolist(), fold.test.tolist()) == (
        "split",
        [0, 1, 2, 3],
        [0, 1],
        [4, 5],
    )


def test_every_value_of_a_fold_column_is_tested_on_once(manifest):
    folds = find_folds(manifest, has_label(manifest, "label"), fold_column="fold")
    assert [(fold.name, fold.train.tolist(), fold.test.tolist()) for fold in folds] == [
        ("9", [1, 4, 7], [0, 5]),
        ("10", [0, 5], [1, 4, 7]),
    ]
    assert [fold.name for fold in choose_fold(folds, "10")] == ["10"]
    assert choose_fold(folds, None) == folds
    with pytest.raises(ManifestError, match="no fold '8'; there are 9, 10"):
        choose_fold(folds, "8")


def test_classes_are_those_of_rows_that_are_used(manifest):
    labeled = has_label(manifest, "label")
    labels = number_labels(manifest, "label", labeled, find_folds(manifest, labeled))
    assert labels.classes == ["a", "b"]
    assert labels.targets.tolist() == [1, 0, -1, -1, 1, 0, -1, -1]
    assert labels.of(np.array([4, 0, 1])).tolist() == [1, 1, 0]


def test_several_labels_are_a_table(manifest):
    labeled = has_label(manifest, "label", multi_label=True)
    labels = number_labels(manifest, "label", labeled, find_folds(manifest, labeled), multi_label=True)
    assert labels.targets.dtype == torch.bool
    assert labels.targets[:4].tolist() == [[False, True], [True, False], [True, True], [False, False]]


def test_a_class_without_training_rows_is_named(manifest):
    labeled = has_label(manifest, "label")
    folds = find_folds(manifest, labeled, fold_column="fold")
    with pytest.raises(ManifestError, match="fold 10: the class 'c' has no training row, and 1 test rows have it"):
        number_labels(manifest, "label", labeled, folds)


def test_a_part_without_labels_is_named(manifest):
    labeled = has_label(manifest, "label")
    labeled[4:6] = False
    with pytest.raises(ManifestError, match="fold split: none of the 3 rows to test on has a usable label"):
        find_folds(manifest, labeled)


def test_a_label_with_an_empty_class_names_its_row():
    columns = {"id": ["0.mp4", "1.mp4"], "path": ["0.mp4", "1.mp4"], "label": ["a|b", "a|"], "split": ["train", "test"]}
    manifest = Manifest.from_columns(columns, "/x")
    labeled = has_label(manifest, "label", multi_label=True)
    folds = find_folds(manifest, labeled)
    with pytest.raises(ManifestError, match=r"row '1.mp4': the label 'a\|' names an empty class"):
        number_labels(manifest, "label", labeled, folds, multi_label=True)
