"""Whatever a name leads to, opening it ends at once."""

from __future__ import annotations

import os
import socket

import pytest

from avssl.core.user_files import FileError, MissingFileError, open_regular, read_bytes, read_text, regular_file

OPENERS = {
    "open": lambda path: open_regular(path).close(),
    "path": regular_file,
    "bytes": lambda path: read_bytes(path, 100),
    "text": lambda path: read_text(path, 100),
}
pytestmark = pytest.mark.parametrize("read", OPENERS.values(), ids=OPENERS)


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "link"])
@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "folder"])
def test_what_is_no_file_is_named(tmp_path, monkeypatch, read, kind, linked):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    path = tmp_path / "x"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("x")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    if linked:
        (tmp_path / "link").symlink_to("x")
        path = tmp_path / "link"
    with pytest.raises(FileError, match=rf"{path}: .*is a {kind}.*, not a file"):
        read(path)


def test_a_file_and_a_link_to_it_are_read(tmp_path, read):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbftext\r\nline\r")
    (tmp_path / "b").symlink_to("a")
    assert read(tmp_path / "a") == read(tmp_path / "b") or read is regular_file
    if read is OPENERS["text"]:
        assert read(tmp_path / "b") == "text\nline\n"


def test_what_is_not_there_is_named(tmp_path, read):
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("nowhere", "link", "folder/file"):
        with pytest.raises(MissingFileError, match=f"{tmp_path / name}: no such file"):
            read(tmp_path / name)
    with pytest.raises(FileError, match=r"'a\\x00b'"):
        read("a\0b")


def test_too_large_files_are_not_read(tmp_path, read):
    (tmp_path / "large").write_bytes(bytes(101))
    if read in (OPENERS["bytes"], OPENERS["text"]):
        with pytest.raises(FileError, match=r"large: holds 101 bytes, but at most 100 are"):
            read(tmp_path / "large")
        with pytest.raises(FileError, match=r"status: holds more than 100 bytes"):  # size 0, says the system
            read("/proc/self/status")


def test_a_fifo_that_replaces_the_file_meanwhile_is_not_waited_for(tmp_path, monkeypatch, read):
    if read is regular_file:
        return  # a library opens it, after this
    file, fifo = tmp_path / "file", tmp_path / "fifo"
    file.write_bytes(b"content")
    os.mkfifo(fifo)
    regular = os.stat(file)
    monkeypatch.setattr("avssl.core.user_files.os.stat", lambda path: regular)
    with pytest.raises(FileError, match="fifo: is a FIFO"):
        read(fifo)
