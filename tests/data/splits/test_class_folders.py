"""Classes and splits from the names of folders, without opening a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.splits import check_trainable, choose_shares, find_class_folders, with_folder_labels


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())  # equal files would be one recording
    return folder


def rows(folder: Path, *names: str) -> Manifest:
    return Manifest.from_columns({"id": names, "path": names}, folder)


def test_the_folder_below_is_the_class(tmp_path):
    names = ["dog/1.mp4", "dog/2.mp4", "cat/1.mp4", "cat/indoors/2.MOV", "loose.mp4", "cat/notes.txt", ".x/y.mp4"]
    found = find_class_folders(make(tmp_path, *names))
    assert (found.num_files, found.has_splits) == ({"cat": 2, "dog": 2}, False)
    assert found.label(Path("cat/indoors/2.MOV")) == "cat"
    assert found.label(Path("loose.mp4")) is None
    loose, deep = found.remarks()
    assert "1 files lie directly in" in loose
    assert "loose.mp4: put them into class folders" in loose
    assert "cat/indoors/2.MOV is of class 'cat'" in deep


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "testing"), ("train", "test")])
def test_split_folders_are_recognized(tmp_path, names):
    make(tmp_path, *(f"{split}/{label}/{split}.mp4" for split in names for label in ("dog", "cat")))
    found = find_class_folders(tmp_path)
    assert found.has_splits
    assert found.num_files == {"cat": len(names), "dog": len(names)}
    paths = [f"{split}/dog/{split}.mp4" for split in names]
    labeled = with_folder_labels(rows(tmp_path, *paths), found, Path(), choose_shares(found, None))
    assert labeled["split"].tolist() == (["train", "val", "test"] if len(names) == 3 else ["train", "test"])
    assert set(labeled["label"]) == {"dog"}
    with pytest.raises(ValueError, match=r"its folders are splits already.*\(0.5 0 0.5\).*Leave it out"):
        choose_shares(found, (0.5, 0, 0.5))


def test_train_may_be_a_class(tmp_path):
    found = find_class_folders(make(tmp_path, "train/1.mp4", "bus/1.mp4"))
    assert (found.num_files, found.has_splits) == ({"bus": 1, "train": 1}, False)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.mp4", "b.mp4"], r"none of its 2 media files lies in a class folder.*CLASS/video\.mp4"),
        (["dog/readme.txt"], "none of its 0 media files lies in a class folder"),
        (["train/1.mp4", "test/2.mp4"], r"names of splits, but test/2\.mp4 lies in no class folder.*test/CLASS/2\.mp4"),
        (["train/dog/1.mp4", "extra/2.mp4"], "the split folder train stands beside other folders: extra"),
        (["a|b/1.mp4"], r"rename the class folder 'a\|b': \| separates"),
    ],
)
def test_folders_that_are_no_classes_are_errors(tmp_path, names, message):
    with pytest.raises(ManifestError, match=message):
        find_class_folders(make(tmp_path, *names))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["dog/1.mp4", "dog/2.mp4"], "there is one class, dog, and a classifier needs two. Name the folder above"),
        (["dog/1.mp4", "dog/2.mp4", "cat/x.txt"], "1 class folders hold no media file: cat. Add videos, or remove"),
        (
            ["dog/1.mp4", "dog/2.mp4", "cat/1.mp4", "owl/1.mp4"],
            "2 classes have one usable recording.*cat, owl. Add videos",
        ),
    ],
)
def test_classes_that_cannot_be_trained_on_are_named(tmp_path, names, message):
    with pytest.raises(ManifestError, match=message):
        check_trainable(find_class_folders(make(tmp_path, *names)))


def test_one_file_a_class_is_enough_in_split_folders(tmp_path):
    names = [f"{split}/{label}/1.mp4" for split in ("train", "test") for label in ("dog", "cat")]
    check_trainable(find_class_folders(make(tmp_path, *names)))


def test_names_that_are_not_utf8_become_text(tmp_path):
    folder = tmp_path / "videos"
    (folder / "ok").mkdir(parents=True)
    (folder / "ok" / "1.mp4").touch()
    strange = Path(f"{folder}/caf\udce9")
    try:
        strange.mkdir()
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    (strange / "1.mp4").touch()
    found = find_class_folders(folder)
    assert sorted(found.num_files.values()) == [1, 1]
    assert all(name.isprintable() for name in found.num_files)
