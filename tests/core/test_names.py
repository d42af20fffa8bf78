"""Every name of a file is text of a table, and only what leaves its folder is refused."""

from __future__ import annotations

import ntpath
import os

import pytest

from avssl.core.names import leaves_folder, name_from_text, name_to_text, printable


def test_every_name_has_one_text_and_comes_back(odd_names):
    assert len(set(odd_names)) == len(odd_names)
    for text in odd_names:
        text.encode()
        assert name_to_text(name_from_text(text)) == text
    for name in (b"\xff", b"bytes:", b"bytes:%FF", b"a\nb", "é".encode()):
        assert os.fsencode(name_from_text(name_to_text(os.fsdecode(name)))) == name
    assert name_to_text(os.fsdecode(b"caf\xe9/100%.mp4")) == "bytes:caf%E9/100%25.mp4"


@pytest.mark.parametrize(
    "text", ["a", "a/b", "a/../b", "./a", "...", "..a", "a..", "C:a", "C:\\a", "\\a", "a\\..\\..\\b"]
)
def test_names_that_stay_are_names(text):
    assert not leaves_folder(text)


@pytest.mark.parametrize("text", ["/a", "//a", "..", "../a", "a/../..", "a/../../b", "./../a", "bytes:%2E%2E/a"])
def test_paths_that_leave_are_told(text):
    assert leaves_folder(text)


@pytest.mark.parametrize(
    "text", ["C:a", "C:\\a", "\\a", "/a", "a\\..\\..\\b", "..\\a", "a/..\\../b", "\\\\server\\share\\a"]
)
def test_windows_understands_more_of_them_as_leaving(monkeypatch, text):
    monkeypatch.setattr("avssl.core.names.os.path", ntpath)
    monkeypatch.setattr("avssl.core.names.os.sep", "\\")
    leaves = leaves_folder(text)
    monkeypatch.undo()
    assert leaves


def test_what_is_printed_cannot_steer_a_terminal():
    assert printable("\x1b]0;title\x07") == "\\x1b]0;title\\x07"
    assert printable("a\r\nb\tc\x85\x9b\u2028") == "a\\r\\nb\\tc\\x85\\x9b\\u2028"
    assert printable("ab\u202egpj.exe") == "ab\\u202egpj.exe"
    assert printable("\udcff") == "\\udcff"
    for name in ("東京\u3000夏祭り", "family 👩\u200d👩\u200d👧", "PM\u202f3", "C:\\x", "שלום\u200f"):
        assert printable(name) == name
