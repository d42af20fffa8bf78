"""Declared sizes are compared with the content of a file before memory is taken."""

from __future__ import annotations

import io
import json
import os
import zipfile

import numpy as np
import pytest
import torch

from avssl.core.data_files import parse_json, read_arrays, read_json, torch_file
from avssl.core.user_files import FileError

ARRAYS = {
    "empty": np.empty((0, 3), dtype=np.int64),
    "texts": np.array(["a", "ü"]),
    "none": np.array([], dtype=np.str_),
    "scalar": np.asarray(2.5),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"),
    "flags": np.array([True, False]),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_numpy_reads_them(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_arrays(tmp_path / "a.npz", 10_000)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable


def test_without_a_limit_nothing_may_be_compressed(tmp_path):
    np.savez(tmp_path / "a.npz", zeros=np.zeros(10_000))
    assert len(read_arrays(tmp_path / "a.npz")["zeros"]) == 10_000
    np.savez_compressed(tmp_path / "a.npz", zeros=np.zeros(10_000))
    with pytest.raises(FileError, match=r"zeros.npy claims a shape of \(10000,\); at most \d+ bytes"):
        read_arrays(tmp_path / "a.npz")


def npy(shape: object, kind: str = "|u1", data: bytes = b"") -> bytes:
    """An array whose header claims a shape."""
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


def packed(path, *members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in members:
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy((2**40,)), "claims a shape"),
        (npy((2**40,), "<U0"), "claims a shape"),
        (npy((2**20, 2**20), "<f8"), "claims a shape"),
        (npy((2**62, 4)), "claims a shape"),
        (npy((-1,)), "claims a shape"),
        (npy((2,), "<U1000000"), "claims a shape"),
        (npy((10,), data=b"123"), "another number of bytes"),
        (npy((1,), data=b"123"), "another number of bytes"),
        (npy((1,), "|O", b"x"), "Python objects"),
        (npy("x"), "shape is not valid"),
        (b"\x93NUMPY\x09\x00", "NPY version"),
        (b"no array", "magic string"),
        (npy((2**24,), data=bytes(2**24)), "claims a shape"),  # zeros that fit into 16 kB
    ],
)
def test_claims_and_bombs_are_refused_at_once(tmp_path, member, message):
    packed(tmp_path / "a.npz", ("a.npy", member))
    with pytest.raises(FileError, match=f"a.npz: not a file of NumPy arrays .*{message}"):
        read_arrays(tmp_path / "a.npz", 2**20)


def test_many_arrays_are_counted_together_and_names_once(tmp_path):
    small = npy((2**19,), data=bytes(2**19))
    packed(tmp_path / "a.npz", *((f"a{number}.npy", small) for number in range(3)))
    with pytest.raises(FileError, match=r"a2\.npy claims a shape"):
        read_arrays(tmp_path / "a.npz", 2**20)
    with pytest.warns(UserWarning, match="Duplicate name"):
        packed(tmp_path / "a.npz", ("a.npy", npy((1,), data=b"1")), ("a.npy", npy((1,), data=b"2")))
    with pytest.raises(FileError, match="the array 'a' stands twice"):
        read_arrays(tmp_path / "a.npz", 2**20)
    packed(tmp_path / "a.npz", ("a.npy", small), how=zipfile.ZIP_LZMA)
    with pytest.raises(FileError, match="compressed in a way that NumPy does not write"):
        read_arrays(tmp_path / "a.npz", 2**20)


def test_any_cut_or_changed_file_is_an_error_or_the_same_arrays(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **ARRAYS)
    whole = (tmp_path / "a.npz").read_bytes()
    generator = np.random.default_rng(0)
    errors = []
    for _ in range(200):
        data = bytearray(whole[: generator.integers(1, len(whole) + 1)])
        data[generator.integers(len(data))] ^= 1 << int(generator.integers(8))
        (tmp_path / "b.npz").write_bytes(data)
        try:
            read_arrays(tmp_path / "b.npz", 10_000)
        except FileError as error:
            errors.append(str(error))
    assert len(errors) > 100
    assert all("b.npz: not a file of NumPy arrays" in error for error in errors)


def test_json_keeps_every_value_or_says_why_not(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, {"b": null}]}')
    assert read_json(path) == {"a": [1, {"b": None}]}
    for text, message in (
        ('{"a": 1, "b": 2, "a": 1}', "a.json: not JSON .the key 'a' stands 2 times in one object"),
        ('[{"x": {"b": 1, "b": 2}}]', "the key 'b' stands 2 times"),
        ("[" * 100_000, "a.json: not JSON"),
        ("{", "a.json: not JSON"),
    ):
        path.write_text(text)
        with pytest.raises(FileError, match=message):
            read_json(path)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(FileError, match="not UTF-8"):
        read_json(path)
    with pytest.raises(FileError, match="at most 4 are"):
        read_json(path, 4)
    assert parse_json(json.dumps({"a": [{"a": 1}, {"a": 2}]})) == {"a": [{"a": 1}, {"a": 2}]}


def test_weights_that_unpack_to_more_than_their_size_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.zeros(10_000)}, path)
    assert torch_file(path) == path
    torch.save({"a": torch.zeros(10)}, path, _use_new_zipfile_serialization=False)
    assert torch_file(path) == path
    out = io.BytesIO()
    torch.save({"a": torch.zeros(10_000)}, out)
    with zipfile.ZipFile(out) as archive:
        packed(path, *((name, archive.read(name)) for name in archive.namelist()))
    with pytest.raises(FileError, match=r"a.pt: \d+ bytes unpack to \d+"):
        torch_file(path)
    with pytest.raises(FileError, match="at most 10 are"):
        torch_file(path, 10)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FileError, match="is a FIFO"):
        torch_file(tmp_path / "fifo")
