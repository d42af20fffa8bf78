"""Rows of the same recording under several names: copies, hard links, symbolic links."""

import os
import shutil

import numpy as np
import pytest

from avssl.core.manifest import Manifest
from avssl.core.names import name_from_text
from avssl.data.content import same_content
from avssl.data.splits import Recordings, divide, held_out_rows


def make_files(folder, count=12, size=300_000):
    generator = np.random.default_rng(0)
    for number in range(count):
        (folder / f"{number}.mp4").write_bytes(generator.bytes(size))


def link(folder, kind, source, name):
    make = {"copy": shutil.copy, "hard link": os.link, "symbolic link": os.symlink}[kind]
    make(folder / source, folder / name)


KINDS = ("copy", "hard link", "symbolic link")


def manifest(folder, names, **columns):
    return Manifest.from_columns({"id": [f"{i}:{n}" for i, n in enumerate(names)], "path": names, **columns}, folder)


def test_all_names_of_a_file_are_one(tmp_path):
    make_files(tmp_path, 3)
    for number, kind in enumerate(KINDS):
        link(tmp_path, kind, "1.mp4", f"{number}.{kind[:4]}")
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "1.mp4").read_bytes()[:-1])
    shutil.copy(tmp_path / "0.copy", tmp_path / "changed.mp4")
    with open(tmp_path / "changed.mp4", "r+b") as file:
        file.write(b"x")
    names = ["0.mp4", "0.copy", "1.mp4", "1.hard", "none.mp4", "2.symb", "cut.mp4", "changed.mp4", "none.mp4"]
    assert same_content([tmp_path / name for name in names]) == [0, 1, 1, 1, 4, 1, 6, 7, 8]
    recordings = Recordings(manifest(tmp_path, names))
    assert len(set(recordings.groups)) == 5  # the two names of a missing file are one name
    assert recordings.num_copies == 3


def test_files_of_any_name_are_known_by_their_content(tmp_path, odd_names):
    make_files(tmp_path, 1)
    for name in odd_names:
        os.link(tmp_path / "0.mp4", tmp_path / name_from_text(name))
    recordings = Recordings(manifest(tmp_path, odd_names[::-1], audio_path=[None, *odd_names[1:]]))
    assert len(set(recordings.groups)) == 1


def test_only_files_of_equal_size_are_read(tmp_path, monkeypatch):
    for number in range(5):
        (tmp_path / f"{number}.mp4").write_bytes(bytes(100 + number // 2))
    opened = []
    monkeypatch.setattr("avssl.data.content._ends_hash", lambda file: opened.append(file.path.name) or file.path.name)
    same_content([tmp_path / f"{number}.mp4" for number in range(5)])
    assert sorted(opened) == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]


def test_a_fifo_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"")
    assert same_content([tmp_path / "a.mp4", tmp_path / "b.mp4", None, None]) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_no_name_of_a_held_out_file_is_trained_on(tmp_path, kind):
    make_files(tmp_path)
    names = [f"{number}.mp4" for number in range(12)]
    for number in range(12):
        link(tmp_path, kind, f"{number}.mp4", f"again{number}.mp4")
        names.append(f"again{number}.mp4")
    rows = manifest(tmp_path, names)
    keep = held_out_rows(rows, 8)
    assert keep.sum() == 8
    held_out, trained = ({name.removeprefix("again") for name in rows["path"][mask]} for mask in (keep, ~keep))
    assert held_out.isdisjoint(trained)


@pytest.mark.parametrize("kind", KINDS)
def test_training_rows_that_repeat_a_test_row_are_left_out_and_counted(tmp_path, kind, caplog):
    make_files(tmp_path, 4)
    link(tmp_path, kind, "3.mp4", "train.mp4")
    names = ["0.mp4", "1.mp4", "train.mp4", "2.mp4", "3.mp4"]
    split = ["train"] * 3 + ["test"] * 2
    fold = ["1", "2", "2", "1", "1"]
    rows = manifest(tmp_path, names, label=list("ababb"), split=split, fold=fold)
    (division,) = divide(rows, "label")
    assert (division.train.tolist(), division.test.tolist(), division.repeated.tolist()) == ([0, 1], [3, 4], [2])
    assert "1 training rows are left out" in caplog.text
    assert "The first is 2:train.mp4" in caplog.text
    one, two = divide(rows, "label", fold_column="fold")
    assert (one.train.tolist(), one.test.tolist()) == ([1], [0, 3, 4])
    assert (two.train.tolist(), two.test.tolist()) == ([0, 3], [1, 2])


def test_other_times_of_a_file_may_be_on_either_side(tmp_path):
    make_files(tmp_path, 1)
    link(tmp_path, "copy", "0.mp4", "1.mp4")
    columns = {"start_seconds": [0.0, 10.0, 5.0], "stop_seconds": [10.0, 20.0, 10.0]}
    rows = manifest(
        tmp_path, ["0.mp4", "0.mp4", "1.mp4"], label=list("aaa"), split=["train", "train", "test"], **columns
    )
    (division,) = divide(rows, "label")
    assert (division.train.tolist(), division.repeated.tolist()) == ([1], [0])


def test_clips_of_a_prepared_corpus_are_known_by_their_sources(tmp_path):
    columns = {
        "source_path": ["a.mp4", "b.mp4", "a.mp4", "c.mp4"],
        "source_file_hash": ["x", "x", "x", "y"],
        "shard_offset": [0, 1, 2, 3],
        "shard_header_bytes": [1, 1, 1, 1],
    }
    shards = ["shards/0.tar"] * 4
    assert Recordings(manifest("s3://bucket/corpus", shards, **columns)).groups.tolist() == [0, 0, 0, 1]
    del columns["source_file_hash"]
    assert Recordings(manifest(tmp_path, shards, **columns)).groups.tolist() == [0, 1, 0, 2]


def test_the_audio_belongs_to_the_recording(tmp_path):
    make_files(tmp_path, 3)
    link(tmp_path, "copy", "0.mp4", "copy.mp4")
    rows = manifest(tmp_path, ["0.mp4", "copy.mp4", "0.mp4"], audio_path=["1.mp4", "1.mp4", "2.mp4"])
    assert Recordings(rows).groups.tolist() == [0, 0, 1]
