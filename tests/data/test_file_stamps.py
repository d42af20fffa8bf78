"""A file that another valid file replaced after its rows were made is a bad row, and a touched or copied one is not."""

import os
import shutil

import pytest
import torch

from avssl.core.manifest import Manifest, read_manifest
from avssl.data import ClipDataset, ClipSampling, index_folder
from avssl.data.content import content_hashes
from avssl.data.file_stamps import check_unchanged, stamped
from avssl.data.shards.copying import ShardJob, make_shard
from avssl.media import MediaError, write_video
from avssl.media.prepared.clip import CopySettings

SAMPLING = ClipSampling(num_frames=2, audio_seconds=0.5, sample_rate_hz=8000)


def make_video(path, seconds=1.0, level=100):
    frames = (torch.arange(round(seconds * 8)) * 20 % 100 + level).to(torch.uint8)[:, None, None, None]
    write_video(path, frames.expand(-1, 3, 32, 32), 8.0, torch.sin(torch.arange(8000 * seconds) * 0.1)[None], 8000)


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        make_video(tmp_path / f"{number}.mp4", 1 + 0.5 * number)
    return tmp_path


def replace_keeping_size(path):
    """Another file of the same size with a newer date."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    later(path)


def later(path):
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def test_index_writes_size_and_content(folder):
    manifest = index_folder(folder).manifest
    assert manifest["file_bytes"].tolist() == [(folder / f"{number}.mp4").stat().st_size for number in range(3)]
    assert manifest["file_hash"].tolist() == content_hashes(manifest)


def test_a_replaced_file_is_a_bad_row_in_every_reader(folder):
    dataset = ClipDataset(index_folder(folder).manifest, SAMPLING)
    dataset.read(0, epoch=0)
    shutil.copy(folder / "1.mp4", folder / "0.mp4")
    with pytest.raises(MediaError, match=r"0.mp4: container: it has \d+ bytes, and had \d+ when its rows were made"):
        dataset.read(0, epoch=0)
    job = ShardJob(folder / "out", 0, dataset.manifest, 0, CopySettings(short_side=32), "pyav")
    failures = make_shard(job)["failures"]
    assert [(failure["id"], failure["reason"]) for failure in failures] == [("0.mp4", "replaced")]


def test_another_date_means_another_file_unless_the_content_is_known_to_be_the_same(folder):
    indexed = index_folder(folder).manifest
    bare = Manifest(indexed.table.select(["id", "path"]), folder)
    known, unknown = stamped(indexed), stamped(bare)
    check_unchanged(unknown, 0)
    later(folder / "0.mp4")
    replace_keeping_size(folder / "1.mp4")
    check_unchanged(known, 0)
    for manifest, row in ((unknown, 0), (known, 1), (unknown, 1)):
        with pytest.raises(MediaError, match=r"it was written again after its rows were read") as caught:
            check_unchanged(manifest, row)
        assert caught.value.reason == "replaced"
    check_unchanged(indexed, 0)
    (folder / "2.mp4").unlink()
    check_unchanged(known, 2)  # opening it says that it is missing


def test_a_resumed_run_compares_and_says_so(folder, caplog):
    first = stamped(Manifest(index_folder(folder).manifest.table.drop_columns(["file_hash"]), folder))
    first.write(folder / "run.csv")  # as a run does
    later(folder / "0.mp4")
    shutil.copy(folder / "2.mp4", folder / "1.mp4")
    again = stamped(read_manifest(folder / "run.csv"), again=True)
    assert "1 rows are dropped: their files were replaced since the run began. The first is 1.mp4" in caplog.text
    assert "1 rows have files with another date" in caplog.text
    check_unchanged(again, 0)
    with pytest.raises(MediaError, match="another file is there now"):
        check_unchanged(again, 1)


def test_a_copied_corpus_with_known_content_resumes_without_a_word(folder, tmp_path_factory, caplog):
    first = stamped(index_folder(folder).manifest)
    other = tmp_path_factory.mktemp("other")
    for number in range(3):
        shutil.copyfile(folder / f"{number}.mp4", other / f"{number}.mp4")
        later(other / f"{number}.mp4")
    again = stamped(Manifest(first.table, other), again=True)
    assert caplog.text == ""
    for row in range(3):
        check_unchanged(again, row)


def test_what_is_not_on_this_machine_is_not_stamped():
    manifest = Manifest.from_columns({"id": ["a"], "path": ["a.tar"]}, "s3://bucket")
    assert stamped(manifest) is manifest
    check_unchanged(manifest, 0)


def test_the_audio_of_a_row_counts(folder):
    rows = stamped(Manifest.from_columns({"id": ["a"], "path": ["0.mp4"], "audio_path": ["1.mp4"]}, folder))
    check_unchanged(rows, 0)
    shutil.copy(folder / "2.mp4", folder / "1.mp4")
    with pytest.raises(MediaError, match="another file is there now"):
        check_unchanged(rows, 0)
