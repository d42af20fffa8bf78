"""Hugging Face datasets: saved folders, and what load_dataset keeps, without the package."""

import json
import sys
from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch

from avssl.core.errors import RunError
from avssl.core.manifest import Manifest, ManifestError
from avssl.data import ClipDataset, ClipSampling
from avssl.data.content import content_hashes
from avssl.data.one_stream import OneStreamDataset
from avssl.data.packed.arrow_sets import is_saved, read_named, read_saved
from avssl.data.packed.sources import is_packed, packed_root, read_packed

SAMPLING = ClipSampling(num_frames=4, frames_per_second=8.0, audio_seconds=1.0, sample_rate_hz=8000, short_side=32)


def rows(manifest, *columns):
    return [tuple(manifest.value(row, name) for name in columns) for row in range(len(manifest))]


def test_rows_and_clips_of_a_saved_dataset(tmp_path, clips, save_set):
    names = list(clips)[:5]
    columns = {"label": [0, 1, 0, -1, 1], "tags": [["x", "y"]] * 5, "note": list("abcde"), "vector": [[0.5]] * 5}
    folder = save_set(tmp_path / "saved", video=[clips[name] for name in names], **columns)
    assert is_saved(folder)
    found = read_packed(str(folder))
    assert found.failures.num_rows == 0
    assert "vector" not in found.manifest
    assert rows(found.manifest, "id", "path", "label", "tags", "note")[2:4] == [
        ("000000002", "data-00000-of-00001.arrow", "dog", "x|y", "c"),
        ("000000003", "data-00000-of-00001.arrow", None, "x|y", "d"),
    ]
    for name in names:
        (tmp_path / f"{name}.mp4").write_bytes(clips[name])
    plain = Manifest.from_columns({"id": found.manifest["id"], "path": [f"{n}.mp4" for n in names]}, tmp_path)
    assert content_hashes(found.manifest) == content_hashes(plain)
    one, other = (ClipDataset(each, SAMPLING, seed=2).read(3, 0) for each in (found.manifest, plain))
    assert torch.equal(one.video, other.video)
    assert torch.equal(one.audio, other.audio)


def test_splits_of_a_dataset_dict(tmp_path, clips, save_set):
    for split, names in (("train", ["clip0", "clip1"]), ("test", ["clip2"])):
        save_set(tmp_path / split, video=[clips[name] for name in names])
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    assert rows(read_saved(tmp_path).manifest, "id", "path", "split") == [
        ("train/000000000", "train/data-00000-of-00001.arrow", "train"),
        ("train/000000001", "train/data-00000-of-00001.arrow", "train"),
        ("test/000000000", "test/data-00000-of-00001.arrow", "test"),
    ]


def test_labels_of_a_webdataset_are_those_of_its_tars(tmp_path, clips, save_set, write_tar):
    """A field of the JSON comes first, and where it is missing KEY.cls and KEY.txt count."""
    fields = [{"label": "sea", "text": None}, {"label": None, "text": "json"}, {"label": None, "text": None}]
    names = list(clips)[:3]
    columns = {"cls": ["0", "1", "2"], "txt": list("abc"), "json": fields, "__key__": names, "__url__": ["x"] * 3}
    saved = read_saved(save_set(tmp_path / "saved", video=[clips[name] for name in names], **columns)).manifest
    members = {}
    for name, label, text, about in zip(names, columns["cls"], columns["txt"], fields, strict=True):
        members |= {f"{name}.mp4": clips[name], f"{name}.cls": label, f"{name}.txt": text, f"{name}.json": about}
    tars = read_packed(write_tar(tmp_path / "x.tar", members)).manifest
    assert rows(saved, "label", "text") == [("sea", "a"), ("1", "json"), ("2", "c")]
    assert rows(tars, "label", "text") == rows(saved, "label", "text")
    assert "json" not in saved
    assert "__url__" not in saved


def test_audio_columns(tmp_path, clips, save_set):
    alone = read_saved(save_set(tmp_path / "a", audio=[clips["clip4"]])).manifest
    audio = OneStreamDataset(alone, SAMPLING, stream="audio").read(0, epoch=0).audio
    assert int(torch.fft.rfft(audio.flatten()[:8000]).abs().argmax()) == 360
    both = read_saved(save_set(tmp_path / "b", video=[clips["clip0"]], audio=[clips["clip4"]])).manifest
    audio = ClipDataset(both, SAMPLING).read(0, 0).audio
    assert int(torch.fft.rfft(audio.flatten()[:8000]).abs().argmax()) == 360


def test_rows_without_bytes_are_accounted(tmp_path, clips, save_set):
    found = read_saved(save_set(tmp_path, video=[clips["clip0"], "/etc/passwd", None]))
    assert rows(found.manifest, "id") == [("000000000",)]
    assert found.failures["id"].to_pylist() == ["000000001", "000000002"]
    assert "the columns Video hold no bytes" in found.failures["message"][0].as_py()


@pytest.mark.parametrize(
    ("features", "columns", "message"),
    [
        ({"note": {"_type": "Value"}}, {"note": ["a"]}, r"no Video or Audio column; it has note \(Value\)"),
        (
            {"a": {"_type": "Video"}, "b": {"_type": "Video"}},
            {"a": [b"1"], "b": [b"2"]},
            r"several Video columns \(a, b\)",
        ),
        ({"x": {"_type": "Video"}}, {"x": ["a.mp4"], "video": [1]}, "no sample with a video or audio"),
    ],
)
def test_datasets_that_cannot_be_read(tmp_path, save_set, features, columns, message):
    with pytest.raises(ManifestError, match=message):
        read_saved(save_set(tmp_path, features=features, **columns))


def test_files_that_are_no_saved_dataset(tmp_path, clips, save_set):
    folder = save_set(tmp_path, options=pa.ipc.IpcWriteOptions(compression="zstd"), video=[clips["clip0"]])
    with pytest.raises(ManifestError, match="its buffers are compressed"):
        read_saved(folder)
    arrow = folder / "data-00000-of-00001.arrow"
    arrow.write_bytes(b"no arrow file")
    with pytest.raises(ManifestError, match="no Arrow stream, as Hugging Face datasets writes it"):
        read_saved(folder)
    arrow.unlink()
    with pytest.raises(ManifestError, match="no such file"):
        read_saved(folder)
    for state in ({"_data_files": [{"filename": "../../x.arrow"}]}, {"_data_files": [{"filename": "/etc/passwd"}]}):
        (folder / "state.json").write_text(json.dumps(state))
        with pytest.raises(ManifestError, match="is no name of a file in it"):
            read_saved(folder)
    (folder / "state.json").write_text("[]")
    with pytest.raises(ManifestError, match="no list '_data_files'"):
        read_saved(folder)


def test_a_name_on_the_hub(tmp_path, clips, save_set, monkeypatch):
    cached = tmp_path / "hub" / "blob"
    cached.parent.mkdir()
    cached.write_bytes(clips["clip2"])
    (tmp_path / "out").symlink_to("/etc")
    media = [clips["clip0"], clips["clip1"], str(cached), "/etc/passwd", str(cached.parent / ".." / "out" / "passwd")]
    folder = save_set(tmp_path / "cache", video=media)
    asked = []

    def load_dataset(name, config):
        asked.append((name, config))
        if name == "someone/none":
            raise FileNotFoundError("no such dataset")
        return {"train": SimpleNamespace(cache_files=[{"filename": str(folder / "data-00000-of-00001.arrow")}])}

    caches = SimpleNamespace(HF_DATASETS_CACHE=str(tmp_path / "cache"), HF_HUB_CACHE=str(tmp_path / "hub"))
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset, config=caches))
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(constants=caches))
    found = read_packed("hf:someone/clips:small")
    manifest = found.manifest
    assert asked == [("someone/clips", "small")]
    assert packed_root("hf:someone/clips:small") == manifest.place == "/"
    assert rows(manifest, "id", "split") == [(f"train/00000000{number}", "train") for number in range(3)]
    assert manifest.file(2) == cached
    assert found.failures["id"].to_pylist() == ["train/000000003", "train/000000004"]
    widths = [ClipDataset(manifest, SAMPLING).read(row, 0).video.shape[-1] for row in range(3)]
    assert widths == [32, 36, 40]
    with pytest.raises(ManifestError, match=r"hf:someone/none: cannot be loaded \(FileNotFoundError: no such dataset"):
        read_named("hf:someone/none")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(RunError, match=r"pip install 'avssl\[hf\]'"):
        read_named("hf:someone/clips")


@pytest.mark.parametrize("name", ["", "csv", "videofolder", "../clips", "someone/..", "./x", "/etc", "a/b/c", "a b/c"])
def test_names_that_load_dataset_would_look_for_in_this_folder(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=None))
    with pytest.raises(ManifestError, match="no name of a dataset on the hub, expected hf:OWNER/NAME"):
        read_named(f"hf:{name}")


def test_the_package_itself_writes_what_is_read(tmp_path, clips):
    datasets = pytest.importorskip("datasets")
    paths = []
    for name in ("clip0", "clip1", "clip2"):
        paths.append(str(tmp_path / f"{name}.mp4"))
        (tmp_path / f"{name}.mp4").write_bytes(clips[name])
    features = datasets.Features(
        {
            "video": datasets.Video(),
            "label": datasets.ClassLabel(names=["a", "b"]),
            "tags": datasets.List(datasets.Value("string")),
        }
    )
    columns = {"video": paths, "label": [0, 1, 1], "tags": [["x"], ["x", "y"], []]}
    saved = datasets.Dataset.from_dict(columns, features=features).select([2, 0, 1])
    datasets.DatasetDict({"train": saved}).save_to_disk(tmp_path / "saved")
    found = read_saved(tmp_path / "saved")
    assert rows(found.manifest, "label", "tags", "split") == [
        ("b", None, "train"),
        ("a", "x", "train"),
        ("b", "x|y", "train"),
    ]
    plain = Manifest.from_columns({"id": ["0", "1", "2"], "path": ["clip2.mp4", "clip0.mp4", "clip1.mp4"]}, tmp_path)
    assert content_hashes(found.manifest) == content_hashes(plain)


@pytest.mark.parametrize(
    "source", ["a.tar", "x/{0..3}.tar", "s3://b/{a,b}.tar", "hf:name", "x.tgz", "x.tar.gz", "{a.tar,b.tar}"]
)
def test_sources_that_are_archives(source):
    assert is_packed(source)
    assert not is_packed("manifest.csv")
    assert not is_packed("s3://bucket/manifest.csv")
