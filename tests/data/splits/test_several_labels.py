"""Rows with several labels, where one is expected, and splits without labels."""

import pytest

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits import divide, encode_labels, num_several


def manifest(tmp_path, labels, splits):
    names = [f"{number}.mp4" for number in range(len(labels))]
    return Manifest.from_columns({"id": names, "path": names, "label": labels, "split": splits}, tmp_path)


def test_a_class_that_trains_only_beside_others_points_to_the_option(tmp_path):
    rows = manifest(tmp_path, ["Speech", "Speech|Music", "Music"], ["train", "train", "test"])
    divisions = divide(rows, "label")
    assert num_several(rows, "label", divisions) == 1
    with pytest.raises(ManifestError) as error:
        encode_labels(rows, "label", divisions)
    assert "1 rows have several labels" in str(error.value)
    assert "--labels.multi-label (avssl finetune) or --multi-label (avssl probe)" in str(error.value)
    assert "Correct the label" not in str(error.value)
    assert encode_labels(rows, "label", divide(rows, "label", multi_label=True), True).targets.tolist() == [
        [False, True],
        [True, True],
        [True, False],
    ]


def test_a_class_without_training_rows_is_still_to_be_corrected(tmp_path):
    rows = manifest(tmp_path, ["a", "a|b", "c"], ["train", "train", "test"])
    divisions = divide(rows, "label", multi_label=True)
    with pytest.raises(ManifestError, match=r"'c' has no training row, but 1 test rows\. Correct the label"):
        encode_labels(rows, "label", divisions, True)


def test_rows_that_all_have_several_labels_point_to_the_option(tmp_path):
    rows = manifest(tmp_path, ["a|b", "a|c", "b|c"], ["train", "train", "test"])
    with pytest.raises(ManifestError, match=r"2 have several, joined by \|: allow them with --labels\.multi-label"):
        divide(rows, "label")


def test_a_test_split_without_labels_names_the_one_that_has_them(tmp_path):
    rows = manifest(tmp_path, ["a", "b", None], ["train", "val", "test"])
    with pytest.raises(
        ManifestError, match=r"The splits with labels are val: choose the test rows with --labels\.test-split val"
    ):
        divide(rows, "label")
