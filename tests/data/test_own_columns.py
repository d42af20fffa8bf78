"""Users' columns stay with their rows when a manifest is made again."""

from avssl.core.manifest import Manifest
from avssl.data.own_columns import merge_own_columns, with_own_cells


def manifest(ids, **columns):
    return Manifest.from_columns({"id": ids, "path": ids, **columns}, "/data")


def test_cells_follow_their_ids():
    made = manifest(["c", "a", "new"], duration_seconds=[3.0, 1.0, 9.0])
    own = {"label": ["dog", "cat", None], "mine": ["1", "2", "3"]}
    earlier = manifest(["a", "b", "c"], duration_seconds=[1.5, 2.0, 3.0], **own)
    merged = merge_own_columns(made, earlier)
    assert merged.manifest.table.column_names == ["id", "path", "duration_seconds", "label", "mine"]
    assert merged.manifest["label"].tolist() == [None, "dog", None]
    assert merged.manifest["mine"].tolist() == ["3", "1", None]
    assert merged.manifest["duration_seconds"].tolist() == [3.0, 1.0, 9.0]
    assert (merged.own_columns, merged.num_kept) == (("label", "mine"), 2)
    assert merged.gone["id"].tolist() == ["b"]
    assert merged.gone["label"].tolist() == ["cat"]


def test_rows_that_were_gone_come_back_with_their_cells():
    made = manifest(["a", "b"])
    earlier, gone = manifest(["a"], label=["dog"]), manifest(["b", "a"], label=["cat", "old"], x=["1", "2"])
    merged = merge_own_columns(made, earlier, gone)
    assert merged.manifest["label"].tolist() == ["dog", "cat"]
    assert merged.manifest["x"].tolist() == [None, "1"]
    assert len(merged.gone) == 0


def test_rows_with_own_cells():
    rows = manifest(["a", "b", "c"], label=["dog", None, None], split=[None, None, "train"])
    assert with_own_cells(rows, ["label", "split"])["id"].tolist() == ["a", "c"]
    assert len(with_own_cells(rows, [])) == 0


def test_no_rows():
    merged = merge_own_columns(manifest(["a"]), manifest([], label=[]))
    assert merged.manifest["label"].tolist() == [None]
    assert merged.num_kept == 0
