"""A folder of class folders as labeled rows."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import torch

from avssl.core.manifest import ManifestError
from avssl.data.splits import divide
from avssl.media import write_video
from avssl.training.labeled_source import read_labeled_source


def write_clip(path: Path, number: int, sound: bool = True) -> None:
    """Write two seconds of a moving grating and a tone."""
    frames = 127 + 120 * torch.sin((torch.arange(48.0) + 3 * torch.arange(16.0)[:, None]) / (4 + number))
    tone = 0.5 * torch.sin(torch.arange(16000.0) / 8000 * (1000 + 300 * number))[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames[:, None, None].expand(-1, 3, 32, 48).to(torch.uint8), 8.0, tone if sound else None, 8000)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Three class folders of three videos each; one has no sound, and one is no video."""
    folder = tmp_path_factory.mktemp("labeled") / "classes"
    for number in range(9):
        write_clip(folder / "abc"[number // 3] / f"{number}.mp4", number, sound=number != 8)
    (folder / "a" / "broken.mp4").write_text("text")
    return folder


def test_rows_have_labels_and_splits_and_bad_files_are_kept_apart(classes, caplog):
    caplog.set_level("INFO", logger="avssl")
    (classes / "manifest.csv").write_text("id,path,label,split\na/0.mp4,a/0.mp4,a,test\nb/3.mp4,b/3.mp4,c,\n")
    found = read_labeled_source(classes, inputs="video", max_bad_fraction=0.2)
    assert dict(zip(found.manifest["id"], found.manifest["label"], strict=True)) == {
        f"{'abc'[number // 3]}/{number}.mp4": "abc"[number // 3] for number in range(9)
    }
    (division,) = divide(found.manifest, "label", val_split="val")
    assert [len(rows) for rows in (division.train, division.val, division.test)] == [3, 3, 3]
    assert found.unusable["path"].to_pylist() == ["a/broken.mp4"]
    assert "for the labels of" in caplog.text
    assert "1 of 9 rows have another label in" in caplog.text
    assert "the first is b/3.mp4: results on the two cannot be compared" in caplog.text
    other = int(found.manifest["split"][found.manifest["id"].tolist().index("a/0.mp4")] != "test")
    assert caplog.text.count("rows have another split in") == other
    assert "3 classes" in caplog.text
    again = read_labeled_source(classes, inputs="video", max_bad_fraction=0.2, seed=0)
    assert again.manifest["split"].tolist() == found.manifest["split"].tolist()
    (classes / "manifest.csv").unlink()


def test_errors_name_the_class_and_what_to_do(classes, tmp_path, monkeypatch):
    with pytest.raises(ManifestError, match=r"2 of its files cannot be used.*1 not_media.*index .*--labels folders"):
        read_labeled_source(classes)
    for number in range(3):
        write_clip(tmp_path / "ab"[number // 2] / f"{number}.mp4", number)
    (tmp_path / "b" / "copy.mp4").write_bytes((tmp_path / "b" / "2.mp4").read_bytes())
    with pytest.raises(ManifestError, match=r"1 classes have one usable recording.*\(copies.*: b\. Add videos"):
        read_labeled_source(tmp_path)
    (tmp_path / "b" / "copy.mp4").write_text("text")
    (tmp_path / "b" / "2.mp4").write_text("another text")
    with pytest.raises(
        ManifestError, match=r"no file of 1 classes can be used: b\. List the reasons with: avssl index"
    ):
        read_labeled_source(tmp_path, max_bad_fraction=0.9)
    monkeypatch.setattr("avssl.training.labeled_source.index_folder", None)  # before any file is opened
    (tmp_path / "b" / "copy.mp4").unlink()
    with pytest.raises(ManifestError, match=r"1 classes have one usable recording.*b"):
        read_labeled_source(tmp_path)


def test_an_unknown_class_may_have_one_recording(tmp_path):
    for number in range(5):
        write_clip(tmp_path / "abc"[number // 2] / f"{number}.mp4", number)
    found = read_labeled_source(tmp_path, unknown_classes=["c"])
    (division,) = divide(found.manifest, "label", val_split="val", unknown_classes=["c"])
    assert found.manifest["id"][division.unknown].tolist() == ["c/4.mp4"]
    with pytest.raises(ManifestError, match=r"1 classes have one usable recording.*c"):
        read_labeled_source(tmp_path)
    with pytest.raises(ManifestError, match="unknown_classes: there is no class folder 'd', but a, b, c"):
        read_labeled_source(tmp_path, unknown_classes=["d"])
    with pytest.raises(ManifestError, match="unknown_classes: no row has the label 'd'; there are a, b, c"):
        divide(found.manifest, "label", unknown_classes=["d"])


def test_tars_have_labels_of_their_own(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in (("x.mp4", b"video"), ("x.cls", b"dog")):
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    assert read_labeled_source(tmp_path / "a.tar").manifest["label"].tolist() == ["dog"]
