"""A file is whole or not there, whatever ends its writing."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from avssl.core.errors import InputError
from avssl.core.output_records import Command
from avssl.core.outputs import claimed_file
from avssl.core.whole_file import is_unfinished, names_full_disk, whole_file, write_json, write_text
from avssl.hub.release import PRETRAINED, write_release
from avssl.media.writer import write_video


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_appears_when_all_is_written(tmp_path, durable):
    path = tmp_path / "new folder" / "a.txt"
    with whole_file(path, durable=durable) as temporary:
        temporary.write_text("text")
        assert names(path.parent) == [temporary.name]
        assert is_unfinished(temporary.name)
        assert not path.exists()
    assert names(path.parent) == ["a.txt"]
    assert path.read_text() == "text"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_keeps_the_previous_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise error("mine")

    with pytest.raises(error, match="mine"):
        write()
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


def test_two_writers_do_not_interfere(tmp_path):
    path = tmp_path / "a.txt"
    with whole_file(path) as first:
        with whole_file(path) as second:
            first.write_text("first")
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


def test_a_file_that_must_not_be_replaced(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1}, replace=False)
    with pytest.raises(FileExistsError):
        write_json(tmp_path / "a.json", {"a": 2}, replace=False)
    write_json(tmp_path / "b.json", {"b": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert names(tmp_path) == ["a.json", "b.json"]


def torch_file(path):
    with path.open("wb") as file:
        torch.save(torch.zeros(10**5), file)


def npz_file(path):
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(10**5))


WRITERS = {
    "text": lambda path: path.write_text("a" * 10**5),
    "torch": torch_file,
    "npz": npz_file,
    "parquet": lambda path: pq.write_table(pa.table({"a": np.random.default_rng(0).random(10**5)}), path),
    "png": lambda path: Image.effect_noise((400, 400), 50).save(path, format="PNG"),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("way", ["limit", "full disk"])
def test_full_disk_names_the_file_for_every_writer(tmp_path, file_size_limit, kind, way):
    path = tmp_path / f"a.{kind}"
    path.write_text("old")

    def write():
        with whole_file(path) as temporary:
            if way == "full disk":
                temporary.symlink_to("/dev/full")
            WRITERS[kind](temporary)

    message = {
        "full disk": r"No space left on device \(\d+ MiB are free\): make room: '",
        "limit": r"File too large: .* \(ulimit -f\) allows no larger one: '",
    }
    with file_size_limit(1000), pytest.raises(OSError, match=message[way]) as caught:
        write()
    assert caught.value.errno == (errno.ENOSPC if way == "full disk" else errno.EFBIG)
    assert caught.value.filename == str(path)
    assert names(tmp_path) == [path.name]
    assert path.read_text() == "old"


def test_full_disk_with_a_video(tmp_path, file_size_limit):
    pictures = torch.randint(0, 256, (20, 3, 64, 64), dtype=torch.uint8)
    with file_size_limit(1000), pytest.raises(OSError, match=r"File too large: .*a\.mp4"):
        write_video(tmp_path / "a.mp4", pictures, 10, None, 16000)
    assert names(tmp_path) == []


def test_full_disk_with_a_release(tmp_path, file_size_limit):
    with file_size_limit(1000), pytest.raises(OSError, match=r"File too large: .*model\.safetensors"):
        write_release(tmp_path, {"a": torch.zeros(1000)}, PRETRAINED, {"config": {"data": {}}}, "card")
    assert names(tmp_path) == ["README.md"]


def test_full_disk_with_a_line_of_a_log(tmp_path, file_size_limit):
    path = tmp_path / "metrics.jsonl"

    def write():
        with names_full_disk(path), path.open("a") as file:
            file.write("a" * 2000)

    with file_size_limit(1000), pytest.raises(OSError, match=r"File too large: .*metrics\.jsonl"):
        write()


def test_written_files_are_readable_by_others(tmp_path):
    """safetensors' own save_file would make a file for its owner alone."""
    mask = os.umask(0o022)
    try:
        write_release(tmp_path, {"a": torch.zeros(3)}, PRETRAINED, {"config": {"data": {}}}, "card")
    finally:
        os.umask(mask)
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o644"}


def test_other_errors_are_not_changed(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"b\.txt"), whole_file(tmp_path / "a.txt"):
        (tmp_path / "b.txt").read_text()
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.txt"):
        pass  # nothing was written
    assert names(tmp_path) == []


def raised_inside(path, make_error):
    with whole_file(path):
        raise make_error() from None


def full(path=None):
    return OSError(errno.ENOSPC, "No space left on device", path)


def test_a_full_disk_elsewhere_is_not_reported_for_this_file(tmp_path):
    """Of another file; or one that was being handled when this file was begun."""
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match=r"other\.txt"):
        raised_inside(path, lambda: full("/elsewhere/other.txt"))

    def bug_while_another_is_handled():
        try:
            raise full()
        except OSError:
            with whole_file(path):
                raise ValueError("a bug")  # noqa: B904

    with pytest.raises(ValueError, match="a bug"):
        bug_while_another_is_handled()

    def hidden():
        with whole_file(path):
            try:
                raise full()
            except OSError:
                raise ValueError("handled") from None

    with pytest.raises(ValueError, match="handled"):
        hidden()

    def nested():
        with whole_file(path), whole_file(tmp_path / "inner.txt"):
            raise full()

    with pytest.raises(OSError, match=r"inner\.txt"):
        nested()
    assert names(tmp_path) == []


def test_links_are_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "disk" / "real.json")
    write_json(tmp_path / "link.json", {})
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "disk" / "real.json").read_text() == "{}\n"
    assert names(tmp_path / "disk") == ["real.json"]


def test_a_pipe_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    handle = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text(pipe, "text")
        assert os.read(handle, 10) == b"text"
    finally:
        os.close(handle)
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


def test_a_pipe_that_nobody_reads_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("avssl.core.whole_file._READER_SECONDS", 0.0)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe: is a FIFO \(named pipe\) that nobody reads. Name a file"):
        write_text(tmp_path / "pipe", "text")
    command = Command.of("index")
    with pytest.raises(InputError, match="nobody reads"), claimed_file(tmp_path / "pipe", command):
        pass


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    write_text(tmp_path / ("ü" * 127), "text")
    write_text(tmp_path / ("a" * 255), "text")
    assert len(names(tmp_path)) == 2


def test_files_left_by_a_kill_are_removed_after_a_day(tmp_path):
    old, new, foreign = ".a.txt.0123456789ab.avssl-tmp", ".a.txt.0123456789ac.avssl-tmp", ".a.txt.0123456789ab.tmp"
    for name in (old, new, foreign):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (1, 1) if name != new else None)
    write_text(tmp_path / "b.txt", "text")
    assert names(tmp_path) == sorted([new, foreign, "b.txt"])


def test_writing_to_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    def refused(_):
        raise PermissionError("not yours to list")

    with monkeypatch.context() as patched:  # root may list every folder
        patched.setattr(os, "listdir", refused)
        write_text(tmp_path / "a.txt", "text")
    assert names(tmp_path) == ["a.txt"]
