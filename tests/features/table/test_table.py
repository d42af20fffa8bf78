import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_fakes import INFO, make, unit

from avssl.features.table import (
    FeatureTable,
    FeatureTableError,
    read_feature_table,
    write_feature_table,
)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_table_comes_back_as_it_was(tmp_path, count):
    table = make(count)
    write_feature_table(table, tmp_path / "new" / "features.parquet")
    back = read_feature_table(tmp_path / "new" / "features.parquet")
    assert back.info == table.info
    for field in dataclasses.fields(FeatureTable)[1:]:
        np.testing.assert_array_equal(getattr(back, field.name), getattr(table, field.name))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["features.parquet"]


def test_other_tools_read_it(tmp_path):
    """Columns with plain names, vectors as lists of one length, and what they are as JSON."""
    table = make()
    write_feature_table(table, tmp_path / "features.parquet")
    plain = pq.read_table(tmp_path / "features.parquet")
    assert plain.column_names == ["id", "path", "start_seconds", "stop_seconds", "video", "audio"]
    np.testing.assert_array_equal(np.array(plain["audio"].to_pylist(), dtype=np.float32), table.audio)
    about = json.loads(plain.schema.metadata[b"avssl"])
    assert about["weights_hash"] == INFO.weights_hash
    assert about["what"] == "embeddings"


def test_the_blocks_of_a_large_table_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr("avssl.features.table.table._BLOCK_ROWS", 3)
    table = make(10)
    write_feature_table(table, tmp_path / "features.parquet")
    back = read_feature_table(tmp_path / "features.parquet")
    np.testing.assert_array_equal(back.video, table.video)
    assert list(back.ids) == list(table.ids)


def test_features_need_no_unit_length_and_have_their_own_sizes(tmp_path):
    info = dataclasses.replace(INFO, what="features", video_size=6, audio_size=3)
    table = make(info=info, video=3 * unit(5, 6), audio=np.zeros((5, 3), dtype=np.float32))
    write_feature_table(table, tmp_path / "features.parquet")
    np.testing.assert_array_equal(read_feature_table(tmp_path / "features.parquet").video, table.video)


def test_any_name_of_a_file_comes_back(tmp_path, odd_names):
    names = np.array(odd_names, dtype=object)
    write_feature_table(make(len(names), ids=names, paths=names), tmp_path / "features.parquet")
    back = read_feature_table(tmp_path / "features.parquet")
    assert list(back.ids) == list(back.paths) == odd_names


def spoiled(array: np.ndarray, row: int, value: object) -> np.ndarray:
    array = array.copy()
    array[row] = value
    return array


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"video": spoiled(unit(5), 2, np.nan)}, "row 2: the video vector is not finite"),
        ({"audio": spoiled(unit(5), 4, np.inf)}, "row 4: the audio vector is not finite"),
        ({"audio": 1.01 * unit(5)}, "row 0: the audio vector is an embedding, but its length is not 1"),
        ({"video": unit(5, 3)}, r"video must be \(5, 4\) float32, got \(5, 3\) float32"),
        ({"video": unit(5).astype(np.float64)}, r"float32, got \(5, 4\) float64"),
        ({"video": unit(4)}, "must have one length"),
        ({"stop_seconds": np.zeros(5)}, "row 0: 0.0 to 0.0 s is not a time span"),
        ({"start_seconds": np.full(5, np.nan)}, "row 0: nan to 2.0 s"),
        ({"ids": np.array(["a", "", "b", "c", "d"], dtype=object)}, "ids must be strings that are not empty"),
        ({"paths": np.array(["a"] * 4 + ["../x"], dtype=object)}, r"path '../x' must be relative"),
        ({"paths": np.array(["/etc/x"] * 5, dtype=object)}, r"path '/etc/x' must be relative"),
    ],
)
def test_what_cannot_be_is_refused(columns, message):
    with pytest.raises(FeatureTableError, match=message):
        make(**columns)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("what", "thoughts", r"what \('thoughts'\) must be one of"),
        ("video_size", -1, r"video_size \(-1\) must lie in"),
        ("audio_size", 10**9, r"audio_size \(1000000000\) must lie in"),
        ("every_seconds", float("nan"), r"every_seconds \(nan\) must be finite and greater than 0"),
        ("every_seconds", "1", r"every_seconds \('1'\) must be of type float"),
        ("video_size", True, r"video_size \(True\) must be of type int"),
        ("config", [], r"config \(\[\]\) must be of type dict"),
    ],
)
def test_a_description_that_cannot_be_is_refused(field, value, message):
    with pytest.raises(FeatureTableError, match=message):
        dataclasses.replace(INFO, **{field: value})


def rewritten(table: FeatureTable, path, text: bytes | None = None, **columns) -> None:
    """Writes a table as somebody else might, with columns or the description replaced."""
    write_feature_table(table, path)
    plain = pq.read_table(path)
    for name, column in columns.items():
        plain = plain.set_column(plain.column_names.index(name), name, column)
    metadata = {b"avssl": text} if text is not None else plain.schema.metadata
    pq.write_table(plain.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{}", "its metadata do not describe a feature table"),
        (b"[1]", "its metadata do not describe a feature table"),
        (b"no json", "its metadata do not describe a feature table"),
        (b"[" * 100_000, "its metadata do not describe a feature table"),
        (b'{"format_version": 9}', "format version 9; this avssl reads 1"),
        (b'{"format_version": 1, "what": "features"}', "missing 9 required"),
        (b" " * (2**20 + 1), "at most 1048576 are read"),
    ],
)
def test_a_file_with_another_description_is_refused(tmp_path, text, message):
    path = tmp_path / "features.parquet"
    rewritten(make(), path, text)
    with pytest.raises(FeatureTableError, match=f"features.parquet: .*{message}"):
        read_feature_table(path)


def test_a_file_of_strangers_is_checked(tmp_path):
    path = tmp_path / "features.parquet"
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(spoiled(unit(5), 3, np.nan).ravel()), 4)
    rewritten(make(), path, audio=vectors)
    with pytest.raises(FeatureTableError, match=r"features.parquet: row 3: the audio vector is not finite"):
        read_feature_table(path)
    rewritten(make(), path, audio=pa.array([[1.0]] * 5))
    with pytest.raises(FeatureTableError, match=r"column audio must be fixed_size_list.*but is list"):
        read_feature_table(path)
    rewritten(make(), path, id=pa.array(["a", None, "b", "c", "d"]))
    with pytest.raises(FeatureTableError, match="column id has empty cells"):
        read_feature_table(path)
    holes = pa.FixedSizeListArray.from_arrays(pa.array([None] * 20, pa.float32()), 4)
    rewritten(make(), path, video=holes)
    with pytest.raises(FeatureTableError, match="column video has empty cells"):
        read_feature_table(path)
    plain = pq.read_table(path).drop_columns(["start_seconds"])
    pq.write_table(plain, path)
    with pytest.raises(FeatureTableError, match="column start_seconds must be double, but is missing"):
        read_feature_table(path)


def test_few_bytes_that_stand_for_many_rows_are_not_believed(tmp_path):
    path = tmp_path / "features.parquet"
    rewritten(make(), path)
    count = 400_000
    info = pq.read_schema(path).metadata
    ones = np.zeros((1000, 4), dtype=np.float32)
    ones[:, 0] = 1
    part = make(1000, video=ones, audio=ones, ids=np.full(1000, "a", object), paths=np.full(1000, "a", object))
    write_feature_table(part, path)
    plain = pa.concat_tables([pq.read_table(path)] * (count // 1000)).replace_schema_metadata(info)
    pq.write_table(plain, path, compression="zstd")
    with pytest.raises(FeatureTableError, match="bytes cannot hold 400000 rows"):
        read_feature_table(path)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "brotli"])
@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}], ids=["dictionary", "plain"])
@pytest.mark.parametrize("name", ["id", "path"])
def test_few_bytes_that_stand_for_much_text_are_not_believed(tmp_path, name, options, compression, monkeypatch):
    path = tmp_path / "features.parquet"
    write_feature_table(make(), path)
    long = pa.array(["a" * 2_000_000 + str(row) for row in range(5)])
    plain = pq.read_table(path)
    plain = plain.set_column(plain.column_names.index(name), name, long)
    pq.write_table(plain, path, compression=compression, row_group_size=1, **options)
    monkeypatch.setattr("avssl.features.table.table._read_rows", None)  # refused before anything is unpacked
    with pytest.raises(FeatureTableError, match=r"features.parquet: \d+ bytes cannot hold 5 rows with 100\d+ bytes"):
        read_feature_table(path)


def test_text_is_counted_also_where_the_header_lies(tmp_path, monkeypatch):
    path = tmp_path / "features.parquet"
    rewritten(make(), path, id=pa.array(["a" * 200_000 + str(row) for row in range(5)]))
    pq.write_table(pq.read_table(path), path, compression="zstd", row_group_size=1)
    monkeypatch.setattr("avssl.features.table.table._refuse_expanding", lambda *header: None)
    with pytest.raises(FeatureTableError, match="its ids and paths are larger than a file of this size can hold"):
        read_feature_table(path)


def test_a_column_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "features.parquet"
    write_feature_table(make(), path)
    plain = pq.read_table(path)
    pq.write_table(plain.append_column("id", plain["path"]), path)
    with pytest.raises(FeatureTableError, match=r"features.parquet: the column 'id' stands 2 times"):
        read_feature_table(path)


def test_no_parquet_no_file_and_parquet_of_others(tmp_path):
    path = tmp_path / "features.parquet"
    with pytest.raises(FeatureTableError, match=r"no such file\. Make one with: avssl embed"):
        read_feature_table(path)
    path.write_bytes(b"PAR1 but no more PAR1")
    with pytest.raises(FeatureTableError, match=r"features.parquet: not a readable Parquet file"):
        read_feature_table(path)
    path.write_bytes(b"")
    with pytest.raises(FeatureTableError, match="not a readable Parquet file"):
        read_feature_table(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(FeatureTableError, match="a Parquet file, but not a feature table"):
        read_feature_table(path)


def test_damaged_files_are_refused_and_never_crash(tmp_path):
    path = tmp_path / "features.parquet"
    table = make(50)
    write_feature_table(table, path)
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for place in generator.integers(0, len(data), 150):
        broken = bytearray(data)
        broken[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(broken)
        try:
            read_feature_table(path)
        except FeatureTableError:
            refused += 1
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(FeatureTableError, match="not a readable Parquet file"):
        read_feature_table(path)
    assert refused > 20
