import numpy as np
import pytest

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits import choose_divisions, divide, has_label, labeled_rows, num_unlabeled, split_rows

COLUMNS = {
    "label": ["b", "a", "a|b", None, "b", "a", "", "c"],
    "split": ["train", "train", "train", "train", "test", "test", "test", None],
    "split2": ["test", "train", "train", "train", "train", "val", "test", "test"],
    "fold": ["9", "10", "9", "10", "10", "9", "9", "10"],
}


def make_manifest(**columns):
    columns = COLUMNS | columns
    names = [f"{i}.mp4" for i in range(len(columns["split"]))]
    return Manifest.from_columns({"id": names, "path": names, **columns}, "/x")


def as_lists(division):
    return [getattr(division, name).tolist() for name in ("train", "test", "unlabeled_train", "unlabeled_test")]


def test_rows_with_a_label():
    manifest = make_manifest()
    assert has_label(manifest, "label").tolist() == [True, True, False, False, True, True, False, True]
    assert np.flatnonzero(~has_label(manifest, "label", multi_label=True)).tolist() == [3, 6]


def test_validation_rows_of_classes_without_training_rows_are_left_out_and_counted(caplog):
    manifest = make_manifest(
        label=["b", "a", "c", "a", "b|c", "a|b", "d", "a"],
        split=["train", "train", "val", "val", "val", "val", "val", "test"],
    )
    (division,) = divide(manifest, "label", val_split="val")
    assert division.val.tolist() == [3]
    assert "fold split: 2 validation rows are left out, as their classes have no training row: c, d" in caplog.text
    (division,) = divide(manifest, "label", val_split="val", multi_label=True)
    assert division.val.tolist() == [3, 5]


def test_a_missing_test_split_names_another_and_the_option():
    manifest = make_manifest(split=["train", "train", "val", "train", "val", "val", None, None])
    advice = (
        r"has train, val\. To test on another split, .* --labels\.test-split val \(avssl finetune\) or --test-split val"
    )
    with pytest.raises(ManifestError, match=advice):
        divide(manifest, "label")


def test_a_split_column_gives_one_division():
    (division,) = divide(make_manifest(), "label")
    assert division.name == "split"
    assert as_lists(division) == [[0, 1], [4, 5], [2, 3], [6]]
    assert division.all_train.tolist() == [0, 1, 2, 3]
    (division,) = divide(make_manifest(), "label", multi_label=True)
    assert as_lists(division) == [[0, 1, 2], [4, 5], [3], [6]]
    (division,) = divide(make_manifest(), "label", train_split=None)
    assert as_lists(division) == [[], [4, 5], [], [6]]


def test_each_split_column_gives_a_division_and_rows_are_counted_once():
    divisions = divide(make_manifest(), "label", split_columns=["split", "split2"])
    assert [division.name for division in divisions] == ["split", "split2"]
    assert as_lists(divisions[1]) == [[1, 4], [0, 7], [2, 3], [6]]
    assert labeled_rows(divisions).tolist() == [0, 1, 4, 5, 7]
    assert num_unlabeled(divisions) == 3
    assert num_unlabeled(divisions[:1]) == 3


def test_each_fold_is_tested_once_against_all_others():
    divisions = divide(make_manifest(), "label", fold_column="fold")
    assert [(each.name, each.train.tolist(), each.test.tolist()) for each in divisions] == [
        ("9", [1, 4, 7], [0, 5]),
        ("10", [0, 5], [1, 4, 7]),
    ]
    assert labeled_rows(divisions).tolist() == [0, 1, 4, 5, 7]
    assert num_unlabeled(divisions) == 3
    assert [each.name for each in choose_divisions(divisions, "10")] == ["10"]
    assert choose_divisions(divisions, None) == divisions
    with pytest.raises(ManifestError, match="no fold '8'; there are 9, 10"):
        choose_divisions(divisions, "8")


def test_rows_of_a_split():
    assert np.flatnonzero(split_rows(make_manifest(), "split2", "test")).tolist() == [0, 6, 7]


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        ({}, {"test_split": "val"}, "no row has split 'val'; the manifest has test, train"),
        ({}, {"split_columns": ["split3"]}, "no column 'split3' in this manifest"),
        ({}, {"fold_column": "folds"}, "no column 'folds' in this manifest"),
        ({}, {"label_column": "kind"}, "no column 'kind' in this manifest"),
        ({}, {"test_split": "train"}, "the training and the test split must differ, both are 'train'"),
        (
            {"label": ["a", "b", "a", "b", None, "a|b", None, None]},
            {},
            "column 'split': none of the 3 test rows has exactly one label in the column 'label'",
        ),
        (
            {"label": [None, "b", None, "b", "a", None, "", "a"]},
            {"fold_column": "fold", "multi_label": True},
            "fold '9': none of the 4 test rows has a label in the column 'label'",
        ),
        (
            {"fold": ["1", None, "2", "", "1", "1", "2", "2"]},
            {"fold_column": "fold"},
            r"column 'fold': 2 of 8 rows have no fold, the first is '1\.mp4'",
        ),
        (
            {"fold": ["1"] * 8},
            {"fold_column": "fold"},
            "cross-validation needs at least two folds, got 1",
        ),
    ],
)
def test_impossible_divisions_are_errors(columns, arguments, message):
    with pytest.raises(ManifestError, match=message):
        divide(make_manifest(**columns), **{"label_column": "label", **arguments})
