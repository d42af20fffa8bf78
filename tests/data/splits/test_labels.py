import numpy as np
import pytest
import torch

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits import divide, encode_labels

COLUMNS = {
    "label": ["b", "a", "a|b", None, "b", "a", "", "c"],
    "split": ["train", "train", "train", "train", "test", "test", "test", "unused"],
    "fold": ["9", "10", "9", "10", "10", "9", "9", "10"],
}


@pytest.fixture
def manifest():
    names = [f"{i}.mp4" for i in range(8)]
    return Manifest.from_columns({"id": names, "path": names, **COLUMNS}, "/x")


def test_classes_are_those_of_training_and_test_rows(manifest):
    labels = encode_labels(manifest, "label", divide(manifest, "label"))
    assert labels.classes == ["a", "b"]
    assert labels.targets.tolist() == [1, 0, -1, -1, 1, 0, -1, -1]
    assert labels.select(np.array([4, 0, 1])).tolist() == [1, 1, 0]


def test_several_labels_are_a_table(manifest):
    labels = encode_labels(manifest, "label", divide(manifest, "label", multi_label=True), multi_label=True)
    assert labels.targets.dtype == torch.bool
    assert labels.targets[:4].tolist() == [[False, True], [True, False], [True, True], [False, False]]


def test_a_class_without_training_rows_is_named(manifest):
    divisions = divide(manifest, "label", fold_column="fold")
    with pytest.raises(ManifestError, match="fold 10: the class 'c' has no training row, but 1 test rows"):
        encode_labels(manifest, "label", divisions)


def test_a_label_with_an_empty_class_names_its_row():
    columns = {"id": ["0.mp4", "1.mp4"], "path": ["0.mp4", "1.mp4"], "label": ["a|b", "a|"], "split": ["train", "test"]}
    manifest = Manifest.from_columns(columns, "/x")
    divisions = divide(manifest, "label", multi_label=True)
    with pytest.raises(ManifestError, match=r"row '1.mp4': the label 'a\|' contains an empty class name"):
        encode_labels(manifest, "label", divisions, multi_label=True)
