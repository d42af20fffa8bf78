import os

import pytest

from avssl.core.manifest import Manifest
from avssl.data.content import BLOCK_BYTES, NUM_BLOCKS, content_hashes


def hashes(folder):
    names = sorted(path.name for path in folder.iterdir())
    return dict(zip(names, content_hashes(Manifest.from_columns({"id": names, "path": names}, folder)), strict=True))


def test_equal_contents_have_equal_hashes_whatever_their_names_and_dates(tmp_path):
    for name, data in (("a", b"one"), ("b", b"one"), ("c", b"two"), ("d", b"")):
        (tmp_path / name).write_bytes(data)
    os.utime(tmp_path / "a", (1, 1))
    found = hashes(tmp_path)
    assert found["a"] == found["b"]
    assert len(set(found.values())) == 3


def test_what_is_no_file_has_no_content(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert set(hashes(tmp_path).values()) == {""}


@pytest.mark.parametrize("place", [0, BLOCK_BYTES - 1, NUM_BLOCKS * BLOCK_BYTES - 1])
def test_every_byte_of_a_small_file_counts(tmp_path, place):
    data = bytearray(NUM_BLOCKS * BLOCK_BYTES)
    (tmp_path / "a").write_bytes(data)
    data[place] = 1
    (tmp_path / "b").write_bytes(data)
    assert len(set(hashes(tmp_path).values())) == 2


@pytest.mark.parametrize(
    ("place", "seen"), [(0, True), (BLOCK_BYTES, False), (-BLOCK_BYTES - 1, False), (-BLOCK_BYTES, True), (-1, True)]
)
def test_of_a_large_file_its_blocks_count(tmp_path, place, seen):
    data = bytearray(50 * BLOCK_BYTES)
    (tmp_path / "a").write_bytes(data)
    data[place] = 1
    (tmp_path / "b").write_bytes(data)
    assert len(set(hashes(tmp_path).values())) == 1 + seen


def test_the_size_of_a_large_file_counts(tmp_path):
    (tmp_path / "a").write_bytes(bytes(50 * BLOCK_BYTES))
    (tmp_path / "b").write_bytes(bytes(50 * BLOCK_BYTES + 1))
    assert len(set(hashes(tmp_path).values())) == 2


def test_a_missing_file_has_an_empty_hash_and_rows_of_one_file_share_theirs(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    manifest = Manifest.from_columns({"id": ["x", "y", "z"], "path": ["a", "a", "gone"]}, tmp_path)
    first, second, missing = content_hashes(manifest)
    assert first == second != missing == ""


def test_clips_of_a_shard_are_told_apart(tmp_path):
    (tmp_path / "s.tar").write_bytes(bytes(BLOCK_BYTES) + b"\1" + bytes(3 * BLOCK_BYTES))
    places = {"shard_offset": [0, 1, 2 * BLOCK_BYTES], "shard_header_bytes": [512, 512, 512]}
    manifest = Manifest.from_columns({"id": list("abc"), "path": ["s.tar"] * 3, **places}, tmp_path)
    assert len(set(content_hashes(manifest))) == 3
    gone = Manifest.from_columns({"id": ["a"], "path": ["t.tar"], "shard_header_bytes": [512]}, tmp_path)
    assert content_hashes(gone) == [""]
