import dataclasses
from pathlib import Path

import numpy as np
import pytest
from table_fakes import INFO, make

from avssl.data import Failure
from avssl.features.table import FeatureTableError, TableParts, read_feature_table

FAILURE = Failure(1, "b.mp4", "b.mp4", "container", "not_media", "b.mp4: no")

SPANS = [(0, 2), (2, 4), (4, 6)]


def test_parts_are_joined_in_the_order_of_rows_and_removed(tmp_path):
    parts = TableParts(tmp_path / "features.parquet")
    assert parts.begin("key", [(0, 2), (2, 3), (3, 9)]) == [(0, 2), (2, 3), (3, 9)]
    parts.add_table(3, 9, make(4), [])  # another process was faster
    parts.add_table(0, 2, make(3), [FAILURE])
    parts.add_table(2, 3, make(0), [])
    assert parts.failures() == [FAILURE]
    parts.join(INFO)
    found = read_feature_table(tmp_path / "features.parquet")
    np.testing.assert_array_equal(found.video, np.concatenate([make(3).video, make(4).video]))
    assert [path.name for path in tmp_path.iterdir()] == ["features.parquet"]


def test_an_interrupted_embedding_goes_on_behind_its_last_whole_part(tmp_path):
    first = TableParts(tmp_path / "features.parquet")
    first.begin("key", [(0, 2), (2, 4)])
    first.add_table(0, 2, make(3), [FAILURE])
    (first.folder / "00000002-00000004.json").write_text("[]")  # killed before the part itself was there
    (first.folder / ".00000002-00000004.parquet.0a.tmp").write_text("half")
    again = TableParts(tmp_path / "features.parquet")
    assert again.begin("key", [(0, 2), (2, 4)]) == [(2, 4)]
    assert again.failures() == [FAILURE]


def test_parts_of_something_else_are_not_taken_up(tmp_path):
    parts = TableParts(tmp_path / "features.parquet")
    parts.begin("key", [(0, 2)])
    with pytest.raises(FeatureTableError, match=r"features.parquet.parts: holds parts of an embedding of other files"):
        parts.begin("other", [(0, 2)])
    parts.discard()
    assert parts.begin("other", [(0, 2)]) == [(0, 2)]
    parts.add_table(0, 2, make(3, dataclasses.replace(INFO, weights_hash="another")), [])
    with pytest.raises(FeatureTableError, match="different models or settings"):
        parts.join(INFO)
    assert not (tmp_path / "features.parquet").exists()


@pytest.mark.parametrize("lost", ["00000000-00000002", "00000002-00000004"])
def test_a_table_is_never_joined_from_some_of_its_parts(tmp_path, lost):
    parts = TableParts(tmp_path / "features.parquet")
    parts.begin("key", SPANS)
    for first in (0, 2, 4):
        parts.add_table(first, first + 2, make(3), [])
    (parts.folder / f"{lost}.parquet").unlink()
    with pytest.raises(FeatureTableError, match=r"rows \d to \d are in no part"):
        parts.join(INFO, 6)
    missing = TableParts(tmp_path / "features.parquet").begin("key", SPANS)
    assert [f"{first:08d}-{stop:08d}" for first, stop in missing] == [lost]
    assert not (tmp_path / "features.parquet").exists()


def test_parts_of_another_division_are_made_again(tmp_path):
    parts = TableParts(tmp_path / "features.parquet")
    parts.begin("key", [(0, 4), (2, 6)])
    parts.add_table(0, 4, make(3), [])
    parts.add_table(2, 6, make(3), [])
    with pytest.raises(FeatureTableError, match="are in no part"):
        parts.join(INFO, 6)
    assert parts.begin("key", [(0, 4), (4, 6)]) == [(4, 6)]
    with pytest.raises(FeatureTableError, match="holds 4 of 6 rows"):
        parts.join(INFO, 6)


def test_a_kill_while_tidying_leaves_parts_that_are_never_used(tmp_path, monkeypatch):
    """At every removal: the next embedding starts over, and no piece of the old one gets into its table."""
    unlink = Path.unlink
    for kill_at in range(1, 8):
        out = tmp_path / f"{kill_at}" / "features.parquet"
        parts = TableParts(out)
        parts.begin("key", SPANS)
        for first in (0, 2, 4):
            parts.add_table(first, first + 2, make(3), [])
        calls = iter(range(1, 99))

        def killed(path, missing_ok=False, calls=calls, kill_at=kill_at):
            if path.parent.name.endswith(".parts") and not path.name.startswith(".") and next(calls) == kill_at:
                raise KeyboardInterrupt
            unlink(path, missing_ok=missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", killed)
            with pytest.raises(KeyboardInterrupt):
                parts.join(INFO, 6)
        assert len(read_feature_table(out)) == 9
        assert TableParts(out).begin("key", SPANS) == ([] if kill_at == 1 else SPANS)


def test_other_files_among_the_parts_are_kept(tmp_path):
    parts = TableParts(tmp_path / "features.parquet")
    parts.begin("key", SPANS)
    (parts.folder / "notes.txt").write_text("mine")
    parts.discard()
    assert [path.name for path in parts.folder.iterdir()] == ["notes.txt"]


def test_a_damaged_part_is_named_and_only_it_is_embedded_again(tmp_path):
    parts = TableParts(tmp_path / "features.parquet")
    parts.begin("key", [(0, 2), (2, 4)])
    parts.add_table(0, 2, make(3), [])
    parts.add_table(2, 4, make(3), [])
    damaged = parts.folder / "00000002-00000004.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(FeatureTableError, match=r"00000002-00000004.parquet.*Remove this part and embed again"):
        parts.join(INFO, 4)
    damaged.unlink()
    assert parts.begin("key", [(0, 2), (2, 4)]) == [(2, 4)]
