import pytest

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits.labeled_rows import labeled_rows, num_unlabeled


def manifest(**columns):
    count = len(columns["split"])
    return Manifest.from_columns({"id": list(map(str, range(count))), "path": ["x.mp4"] * count, **columns}, "/nowhere")


def test_rows_of_the_splits_with_one_label_stay_in_their_order():
    rows = manifest(
        split=["test", "train", "val", "test", "train", "test", None],
        label=["cat", "dog", "cat", None, "cat|dog", "", "dog"],
    )
    found = labeled_rows(rows, "label", "split", ("train", "test"))
    assert found["id"].tolist() == ["0", "1"]
    assert num_unlabeled(rows, "label", "split", ("train", "test")) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("label", "split", ("train", "val")), "no row has split 'val'; the manifest has test, train"),
        (("kind", "split", ("train",)), "no column 'kind' in this manifest"),
        (("label", "fold", ("train",)), "no column 'fold' in this manifest"),
        (("label", "split", ("train", "train")), r"splits \(train, train\) must differ"),
        (("label", "split", ("train", "test")), "no row of the split 'test' has exactly one label"),
    ],
)
def test_what_is_missing_is_named(arguments, message):
    with pytest.raises(ManifestError, match=message):
        labeled_rows(manifest(split=["train", "test"], label=["cat", "cat|dog"]), *arguments)
