"""Which rows a model was trained on, and test sets against them."""

import pytest

from avssl.core.manifest import Manifest, ManifestError
from avssl.training.overlap import overlap_with_training, overlaps_with_tests, training_rows

NAMES = [f"{letter * 11}_0000{number}0.mp4" for number, letter in enumerate("abcd", 1)]


@pytest.fixture
def source(tmp_path):
    """A manifest of four clips, two of them for training, one file of which is also in the test split."""
    (tmp_path / "data").mkdir()
    for number, name in enumerate(NAMES):
        (tmp_path / "data" / name).write_bytes(b"same" if number in (0, 2) else name.encode())
    columns = {"id": NAMES, "path": NAMES, "split": ["train", "train", "test", "test"]}
    Manifest.from_columns(columns, tmp_path / "data").write(tmp_path / "data/manifest.csv")
    return tmp_path / "data/manifest.csv"


def run_of(folder, source, rows, init_from=""):
    folder.mkdir(parents=True)
    (folder / "weights").mkdir()
    Manifest.from_columns({"id": rows, "path": rows}, folder).write(folder / "manifest.csv")
    (folder / "unusable_files.csv").write_text('"id","path","stream","reason","message"\n')
    (folder / "config.yaml").write_text(f"data:\n  source: {source}\ntrain:\n  init_from: {init_from or 'null'}\n")
    return folder


def test_rows_of_a_run_and_of_the_run_it_starts_from(tmp_path, source):
    first = run_of(tmp_path / "runs/first", source, NAMES[:1])
    second = run_of(tmp_path / "runs/second", source, NAMES[1:2], init_from=first)
    for place in (second, second / "weights"):
        assert [rows["id"].tolist() for rows in training_rows(place)] == [NAMES[1:2], NAMES[:1]]
    assert training_rows(second)[0].file(0) == tmp_path / "data" / NAMES[1]
    test = Manifest.from_columns({"id": NAMES, "path": NAMES}, tmp_path / "data")
    found = overlap_with_training(second, test)
    assert set(found.by_name) == set(NAMES[:2])
    assert set(found.by_content) == set(NAMES[:3])
    assert found.contents_compared


def test_a_model_without_its_run_has_unknown_rows(tmp_path, source):
    (tmp_path / "release").mkdir()
    for place in (tmp_path / "release", "hub-user/model"):
        assert overlap_with_training(place, Manifest.from_columns({"id": ["a"], "path": ["a"]}, tmp_path)) is None


def test_other_splits_manifests_and_lists_are_compared_with_the_rows(tmp_path, source):
    train = Manifest.from_columns({"id": NAMES[:2], "path": NAMES[:2]}, tmp_path / "data")
    (tmp_path / "vggss_test.csv").write_text("aaaaaaaaaaa_000010\nzzzzzzzzzzz_000010\nbbbbbbbbbbb_20000_30000\n")
    found = overlaps_with_tests(train, str(source), [tmp_path / "vggss_test.csv", source])
    shown = {name.rpartition("/")[2]: overlap.names for name, overlap in found.items()}
    assert shown == {
        "vggss_test.csv": ["aaaaaaaaaaa@10", "bbbbbbbbbbb@20"],
        "manifest.csv": [*NAMES[:2], NAMES[2]],
        "split test": [NAMES[2]],
    }


def test_what_is_no_test_set_is_named(tmp_path, source):
    train = Manifest.from_columns({"id": NAMES[:2], "path": NAMES[:2]}, tmp_path / "data")
    with pytest.raises(ManifestError, match=r"none\.csv"):
        overlaps_with_tests(train, str(source), [tmp_path / "none.csv"])
