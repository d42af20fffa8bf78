"""Keys of rows, and manifests in Parquet and Arrow files that hold them."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avssl.core import draws
from avssl.core.manifest import Manifest, ManifestError, read_manifest
from avssl.core.row_keys import RowKeys

ESCAPES = ("/a", "..", "x/../../a", "bytes:%2E%2E/%E9")


def made(root, **columns) -> Manifest:
    ids = [f"b.mp4#{number}" for number in range(4)] + ["a.mp4", "é.mp4"]
    paths = ["b.mp4"] * 4 + ["a.mp4", "é.mp4"]
    return Manifest.from_columns({"id": ids, "path": paths, "start_seconds": [0.5, None, 2, 3, 4, 5], **columns}, root)


def rewritten(path, change) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def test_keys_are_those_of_the_texts_however_the_column_is_cut():
    ids = ["a.mp4", "b.mp4", "a.mp4", "é", "b.mp4"]
    keys = RowKeys(pa.chunked_array([ids]), pa.chunked_array([ids[:2], [], ids[2:]]))
    assert keys.ids().tolist() == [draws.text_key(name) for name in ids]
    assert keys.files().tolist() == [0, 1, 0, 2, 1]
    assert sorted(keys.repeated()) == ["a.mp4", "b.mp4"]
    expected = hashlib.sha256(b"".join(name.encode() + b"\0" for name in sorted(ids))).hexdigest()
    assert keys.hash() == expected[:16]
    assert RowKeys(pa.chunked_array([], pa.string()), pa.chunked_array([], pa.string())).files().tolist() == []


def test_parquet_and_csv_hold_the_same_manifest(tmp_path):
    manifest = made(tmp_path, label=["dog", None, "a|b", "x", "'=1", "y"], width=[1, None, 3, 4, 5, 6])
    read = {}
    for name in ("manifest.csv", "manifest.parquet"):
        manifest.write(tmp_path / name)
        read[name] = read_manifest(tmp_path / name)
        assert read[name].keys.hash() == manifest.hash()
        assert read[name].keys.ids().tolist() == manifest.keys.ids().tolist()
        assert read[name].file(0) == tmp_path / "b.mp4"
    assert read["manifest.csv"].table.to_pydict() == read["manifest.parquet"].table.to_pydict()
    assert read["manifest.csv"].table.schema == read["manifest.parquet"].table.schema


def test_a_mapped_file_gives_the_rows_without_reading_them(tmp_path):
    manifest = made(tmp_path)
    manifest.write_mapped(tmp_path / "rows.arrow")
    before = pa.total_allocated_bytes()
    mapped = read_manifest(tmp_path / "rows.arrow", "/elsewhere", mapped=True)
    assert pa.total_allocated_bytes() - before < 10_000
    assert mapped.table.to_pydict() == manifest.table.to_pydict()
    assert mapped.location(5) == "/elsewhere/é.mp4"
    assert mapped.keys.are_checked
    assert mapped.keys.files().tolist() == [0, 0, 0, 0, 1, 2]
    assert mapped.select(np.array([5, 1]))["id"].tolist() == ["é.mp4", "b.mp4#1"]


def test_a_table_of_another_program_is_read_by_the_rules_of_a_csv(tmp_path):
    table = {
        "ID": pa.array(["a", "b", "c"]).dictionary_encode(),
        "path": pa.array(["a", "b", "c"], pa.large_string()),
        "label": ["dog", "", None],
        "fold": [1, 2, None],
        "width": [64.0, float("nan"), None],
        "duration_seconds": [1, 2, 3],
        "clean": [True, False, None],
    }
    pq.write_table(pa.table(table), tmp_path / "m.parquet")
    manifest = read_manifest(tmp_path / "m.parquet")
    assert manifest["label"].tolist() == ["dog", None, None]
    assert manifest["fold"].tolist() == ["1", "2", None]
    assert [manifest.value(row, "width") for row in range(3)] == [64, None, None]
    assert manifest["duration_seconds"].tolist() == [1.0, 2.0, 3.0]
    assert manifest["clean"].tolist() == ["true", "false", None]
    assert not manifest.keys.are_checked


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a", "a"]}, "m.parquet: 1 ids appear more than once, the first is 'a'"),
        ({"id": ["a", ""]}, "m.parquet: row 1: id is empty"),
        ({"width": [1.5, 2]}, r"m.parquet: the column 'width' holds double, and int64 is expected \(.*1.5"),
        ({"width": ["wide", "1"]}, "m.parquet: the column 'width' holds string, and int64 is expected"),
        ({"boxes": [[1], [2]]}, "'boxes' holds list<.*>, and a cell is text or a number"),
        *(({"path": ["a", path]}, "must be relative and stay inside") for path in ESCAPES),
    ],
)
def test_a_wrong_cell_is_named(tmp_path, columns, message):
    pq.write_table(pa.table({"id": ["a", "b"], "path": ["a", "b"], **columns}), tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "m.parquet")


def test_no_column_stands_twice_and_no_damaged_file_is_read(tmp_path):
    path = tmp_path / "m.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, ["id", "path", "Path"]), path)
    with pytest.raises(ManifestError, match="the column 'path' stands more than once"):
        read_manifest(path)
    made(tmp_path).write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ManifestError, match=r"m.parquet: cannot be read as Parquet"):
        read_manifest(path)
    (tmp_path / "m.arrow").write_bytes(b"ARROW1\0\0")
    with pytest.raises(ManifestError, match=r"m.arrow: cannot be read as an Arrow file"):
        read_manifest(tmp_path / "m.arrow")


def test_few_bytes_that_stand_for_much_text_are_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr("avssl.core.column_files._FREE_BYTES", 2**20)
    name = pa.array(["a" * 1000])
    many = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), name).cast(pa.string())
    pq.write_table(pa.table({"id": many, "path": many}), tmp_path / "m.parquet", compression="zstd")
    with pytest.raises(ManifestError, match=r"m.parquet: would need \d+ MiB or more, which no table of its size holds"):
        read_manifest(tmp_path / "m.parquet")


def test_a_text_that_repeats_is_counted_as_often_as_it_stands(tmp_path):
    many = pa.DictionaryArray.from_arrays(pa.array(np.zeros(60_000, np.int32)), ["x" * 20_000])
    pq.write_table(pa.table({"id": many, "path": many}), tmp_path / "m.parquet")
    assert (tmp_path / "m.parquet").stat().st_size < 10_000
    before = pa.total_allocated_bytes()
    with pytest.raises(ManifestError, match=r"m.parquet: would need \d+ MiB or more"):
        read_manifest(tmp_path / "m.parquet")
    assert pa.total_allocated_bytes() - before < 2**26


def test_keys_in_a_parquet_file_are_not_trusted(tmp_path):
    manifest, path = made(tmp_path), tmp_path / "m.parquet"
    other = [f"{number}.mp4" for number in range(6)]
    table = manifest.keys.stored_with(manifest.table)
    pq.write_table(table.set_column(table.column_names.index("id"), "id", pa.array(other)), path)
    changed = read_manifest(path)
    assert changed.table.column_names == manifest.table.column_names
    assert changed.hash() == RowKeys(pa.chunked_array([other]), manifest.table["path"]).hash() != manifest.hash()


def test_an_arrow_file_of_others_is_no_manifest(tmp_path):
    plain = pa.table({"id": ["a"], "path": ["../a"]})
    for table, message in ((plain, "holds no keys"), (plain.drop_columns("id"), r"the columns \['path'\]")):
        with pa.ipc.new_file(str(tmp_path / "m.arrow"), table.schema) as writer:
            writer.write_table(table)
        with pytest.raises(ManifestError, match=f"m.arrow: is no Arrow file of a run, as it .*{message}"):
            read_manifest(tmp_path / "m.arrow", mapped=True)
    with pytest.raises(ManifestError, match=r"m.arrow: is an Arrow file, .* Use Parquet, or CSV"):
        read_manifest(tmp_path / "m.arrow")
    keys = RowKeys(pa.chunked_array([["a"]]), pa.chunked_array([["../a"]]))
    table = keys.stored_with(plain)
    assert json.loads(table.schema.metadata[b"avssl.ids"])["rows"] == 1
    with pa.ipc.new_file(str(tmp_path / "m.arrow"), table.schema) as writer:
        writer.write_table(table)
    manifest = read_manifest(tmp_path / "m.arrow", mapped=True)
    for use in (manifest.file, manifest.location, manifest.sound_file):
        with pytest.raises(ManifestError, match="must be relative and stay inside"):
            use(0)
