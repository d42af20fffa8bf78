"""Tars of WebDataset: their rows, what is wrong with them, and clips that are those of the files themselves."""

import gc
import io
import os
import tarfile

import fsspec
import pytest
import torch
from data_fakes import assert_same_batches, take

from avssl.core.manifest import Manifest, ManifestError, read_manifest
from avssl.data import ClipDataset, ClipSampling, TrainLoader
from avssl.data.content import content_hashes
from avssl.data.packed import tars
from avssl.data.packed.tars import read_tars, split_name
from avssl.data.splits import Recordings
from avssl.features.table import read_feature_table
from avssl.media import MediaError
from avssl.recipes.embed import embed
from avssl.recipes.prepare import prepare

SAMPLING = ClipSampling(num_frames=4, frames_per_second=8.0, audio_seconds=1.0, sample_rate_hz=8000, short_side=32)


def rows(manifest, *columns):
    return [tuple(manifest.value(row, name) for name in columns) for row in range(len(manifest))]


@pytest.fixture
def shards(tmp_path, clips, write_tar):
    """Two tars of four and five clips, as a pattern."""
    names = list(clips)
    for number, part in enumerate((names[:4], names[4:])):
        members = {}
        for name in part:
            members |= {
                f"{name}.mp4": clips[name],
                f"{name}.json": {"label": name[-1], "views": 7, "path": "/etc/passwd"},
            }
        write_tar(tmp_path / f"shard-{number:03d}.tar", members)
    return str(tmp_path / "shard-{000..001}.tar")


@pytest.fixture
def plain(tmp_path, clips):
    """The same clips as files, with the ids that they have in the tars."""
    for name, content in clips.items():
        (tmp_path / f"{name}.mp4").write_bytes(content)
    ids = [f"shard-{int(number > 3):03d}.tar/{name}.mp4" for number, name in enumerate(clips)]
    return Manifest.from_columns({"id": ids, "path": [f"{name}.mp4" for name in clips]}, tmp_path)


def test_rows_of_tars(shards, tmp_path):
    found = read_tars(shards)
    assert found.failures.num_rows == 0
    assert found.manifest.place == str(tmp_path)
    assert rows(found.manifest, "id", "path", "label", "views", "sample_path", "truth")[:5:4] == [
        ("shard-000.tar/clip0.mp4", "shard-000.tar", "0", "7", "/etc/passwd", None),
        ("shard-001.tar/clip4.mp4", "shard-001.tar", "4", "7", "/etc/passwd", None),
    ]
    found.manifest.write(tmp_path / "manifest.csv")
    assert rows(read_manifest(tmp_path / "manifest.csv"), *found.manifest.table.column_names) == rows(
        found.manifest, *found.manifest.table.column_names
    )


def test_clips_are_those_of_the_files(shards, plain):
    packed = read_tars(shards).manifest
    for backend in ("pyav", "auto"):
        ours, theirs = (ClipDataset(of, SAMPLING, seed=3, backend=backend) for of in (packed, plain))
        for row in (0, 5):
            one, other = ours.read(row, 0), theirs.read(row, 0)
            assert torch.equal(one.video, other.video)
            assert torch.equal(one.audio, other.audio)
    assert content_hashes(packed) == content_hashes(plain)
    assert len(set(Recordings(packed).groups)) == len(packed)  # one tar is not one recording
    assert len(set(packed.keys.files())) == len(packed)


def test_resume_is_exact_with_other_workers(shards):
    def loader(workers=0):
        data = ClipDataset(read_tars(shards).manifest, SAMPLING, seed=5, backend="pyav")
        return TrainLoader(data, 3, num_workers=workers)

    whole = take(loader(), 9)
    first = loader(1)
    take(first, 4)
    second = loader(2)
    second.load_state_dict(first.state_dict())
    assert_same_batches(take(second, 5), whole[4:])


def test_an_object_store_gives_the_same_clips(shards, tmp_path):
    system = fsspec.filesystem("memory")
    for file in tmp_path.glob("*.tar"):
        system.pipe_file(f"/packed/x/{file.name}", file.read_bytes())
    local = read_tars(shards).manifest
    for pattern in ("memory://packed/x/shard-{000..001}.tar", "memory://packed/x/*.tar"):
        remote = read_tars(pattern).manifest
        assert remote["id"].tolist() == local["id"].tolist()
        assert content_hashes(remote) == content_hashes(local)
        one, other = (ClipDataset(each, SAMPLING, seed=1).read(6, 0) for each in (remote, local))
        assert torch.equal(one.video, other.video)


def test_files_in_memory_are_released_at_once(shards):
    data = ClipDataset(read_tars(shards).manifest, SAMPLING)
    data.read(0, 0)
    data.read(8, 0)  # both tars stay open
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        for row in range(9):
            data.read(row, 1)
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_damaged_members_are_bad_rows_with_their_names(tmp_path, clips, write_tar):
    good = clips["clip0"]
    members = {f"{name}.mp4": clips[name] for name in list(clips)[:6]}
    write_tar(
        tmp_path / "a.tar",
        members | {"bad.mp4": b"no video at all", "cut.mp4": good[: len(good) // 2], "empty.mp4": b""},
    )
    manifest = read_tars(str(tmp_path / "a.tar")).manifest
    data = ClipDataset(manifest, SAMPLING)
    with pytest.raises(MediaError, match=r"a\.tar: a\.tar/bad\.mp4: container: the file is text") as error:
        data.read(6, 0)
    assert "/proc/" not in str(error.value)
    with pytest.raises(MediaError, match=r"a\.tar: a\.tar/empty\.mp4: container: the file is empty"):
        data.read(8, 0)
    loader = TrainLoader(data, 2, max_bad_fraction=0.5)
    take(loader, 8)
    assert sorted(failure.id for failure in loader.ledger) == [f"a.tar/{name}.mp4" for name in ("bad", "cut", "empty")]


def test_a_tar_that_was_cut_off_since_is_a_bad_row(shards, tmp_path):
    manifest = read_tars(shards).manifest
    file = tmp_path / "shard-001.tar"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(
        MediaError, match=r"shard-001\.tar/clip8\.mp4: container: the archive holds 0 of its \d+ bytes at"
    ):
        ClipDataset(manifest, SAMPLING).read(8, 0)
    file.unlink()
    with pytest.raises(MediaError, match=r"shard-001\.tar: container: cannot be read"):
        ClipDataset(manifest, SAMPLING).read(8, 0)


def test_samples_without_a_row_are_accounted(tmp_path, clips, write_tar, monkeypatch):
    monkeypatch.setattr(tars, "MAX_TEXT_BYTES", 200)
    clip = clips["clip0"]
    members = {
        "README.md": "no sample",
        "good.mp4": clip,
        "good.cls": "3\n",
        "good.txt": "a dog barks",
        "nothing.json": {"label": "x"},
        "json.mp4": clip,
        "json.json": "{",
        "list.mp4": clip,
        "list.json": "[1]",
        "long.mp4": clip,
        "long.txt": "x" * 300,
        "two.mp4": clip,
        "two.webm": clip,
        "bar.mp4": clip,
        "bar.json": {"label": "a|b"},
        "time.mp4": clip,
        "time.json": {"start_seconds": "soon"},
    }
    path = write_tar(tmp_path / "a.tar", members)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for _ in range(2):
            again = tarfile.TarInfo("again.mp4")
            again.size = len(clip)
            tar.addfile(again, io.BytesIO(clip))
    found = read_tars(str(path))
    assert rows(found.manifest, "id", "label", "text") == [("a.tar/good.mp4", "3", "a dog barks")]
    failed = {row["id"]: row["message"] for row in found.failures.to_pylist()}
    words = {
        "nothing": "no video or audio among its members (.json)",
        "json": "Expecting property name",
        "list": "list in .json, where an object is expected",
        "long": "long.txt is no file of at most 200 bytes",
        "two": "several media files (.mp4, .webm)",
        "bar": "the label 'a|b' holds '|'",
        "time": "start_seconds is 'soon', expected a number of seconds",
        "link": "its .mp4 is a link",
        "again": "stands twice",
    }
    assert failed.keys() == {f"a.tar/{name}" for name in words}
    for name, word in words.items():
        assert word in failed[f"a.tar/{name}"], name


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda data: data[: len(data) - 11_000], "a.tar"),
        (lambda data: b"\x1f\x8b" + data[2:], "is no tar that can be read"),
        (lambda data: b"", "is no tar that can be read"),
    ],
)
def test_damaged_tars_are_accounted(tmp_path, clips, write_tar, damage, word):
    path = write_tar(tmp_path / "a.tar", {"one.mp4": clips["clip0"], "two.mp4": clips["clip1"]})
    write_tar(tmp_path / "b.tar", {"three.mp4": clips["clip2"]})
    path.write_bytes(damage(path.read_bytes()))
    found = read_tars(f"{tmp_path}/*.tar")
    assert "b.tar/three.mp4" in found.manifest["id"]
    assert any(word in message for message in found.failures["message"].to_pylist())
    with pytest.raises(ManifestError, match="no sample with a video or audio"):
        read_tars(str(write_tar(tmp_path / "none.tar", {"x.txt": "x", "y.npy": "y"})))


def test_headers_are_bounded_and_programs_are_not_run(tmp_path, clips, write_tar, monkeypatch):
    monkeypatch.setattr(tars, "_MAX_HEADER_BYTES", 2048)
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        about = tarfile.TarInfo("x" * 5000 + ".mp4")
        tar.addfile(about, io.BytesIO())
    write_tar(tmp_path / "b.tar", {"three.mp4": clips["clip2"]})
    (message,) = read_tars(f"{tmp_path}/*.tar").failures["message"].to_pylist()
    assert "at most 2048 are read" in message
    with pytest.raises(ManifestError, match="programs are not run"):
        read_tars("pipe:cat x.tar")


def test_a_name_that_leads_elsewhere_is_only_a_name(tmp_path, clips, write_tar):
    write_tar(tmp_path / "a.tar", {"../../etc/x.mp4": clips["clip0"], "/abs.mp4": clips["clip1"]})
    manifest = read_tars(str(tmp_path / "a.tar")).manifest
    assert manifest["path"].tolist() == ["a.tar", "a.tar"]
    assert ClipDataset(manifest, SAMPLING).read(0, 0).video.shape[-1] == 32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]


def test_audio_beside_an_image_or_video_is_its_audio(tmp_path, clips, write_tar):
    png = io.BytesIO()
    from PIL import Image

    Image.new("RGB", (32, 32), "white").save(png, "PNG")
    members = {"a.png": png.getvalue(), "a.m4a": clips["clip3"], "b.mp4": clips["clip0"], "b.m4a": clips["clip5"]}
    write_tar(tmp_path / "a.tar", members | {"c.m4a": clips["clip1"]})
    manifest = read_tars(str(tmp_path / "a.tar")).manifest
    assert rows(manifest, "id") == [("a.tar/a.png",), ("a.tar/b.mp4",), ("a.tar/c.m4a",)]
    data = ClipDataset(manifest, SAMPLING)
    assert data.read(0, 0).video.float().mean() == 255
    peaks = [int(torch.fft.rfft(data.read(row, 0).audio[..., :8000].flatten()).abs().argmax()) for row in (0, 1)]
    assert peaks == [320, 400]


def test_a_prepared_copy_of_a_tar(shards, tmp_path):
    manifest = read_tars(shards).manifest
    manifest.write(tmp_path / "manifest.csv")
    prepare(tmp_path / "manifest.csv", tmp_path / "copy", num_workers=0, progress=False)
    copied = read_manifest(tmp_path / "copy" / "manifest.csv")
    assert copied["id"].tolist() == manifest["id"].tolist()
    assert "member_bytes" not in copied
    assert ClipDataset(copied, SAMPLING).read(2, 0).video.shape[0] == 4


def test_keys_end_at_the_first_dot_of_the_last_part():
    assert split_name("a.b/c.d.mp4") == ("a.b/c", ".d.mp4")
    assert split_name(".hidden") == (".hidden", "")
    assert split_name("x.MP4") == ("x", ".mp4")


def test_a_table_of_a_tar_has_a_file_for_each_sample(shards, tiny_release, tmp_path):
    read_tars(shards).manifest.write(tmp_path / "manifest.csv")
    embed(tmp_path / "manifest.csv", checkpoint=tiny_release, out=tmp_path / "t.parquet", num_workers=0, progress=False)
    table = read_feature_table(tmp_path / "t.parquet")
    assert len(set(table.paths)) == len(set(table.ids)) == 9
    with pytest.raises(ManifestError, match="avssl localize opens media files as a whole"):
        read_manifest(tmp_path / "manifest.csv").require_files("avssl localize")
