import dataclasses

import numpy as np
import pytest
from table_fakes import INFO, make

from avssl.data import Failure
from avssl.features.table import FeatureTableError, TableParts, read_feature_table

FAILURE = Failure(1, "b.mp4", "b.mp4", "container", "not_media", "b.mp4: no")


def test_parts_are_joined_in_the_order_of_rows_and_removed(tmp_path):
    parts = TableParts(tmp_path / "features.parquet")
    assert parts.begin("key") == 0
    parts.add(0, 2, make(3), [FAILURE])
    parts.add(2, 3, make(0), [])
    parts.add(3, 9, make(4), [])
    assert parts.failures() == [FAILURE]
    parts.join(INFO)
    found = read_feature_table(tmp_path / "features.parquet")
    np.testing.assert_array_equal(found.video, np.concatenate([make(3).video, make(4).video]))
    assert [path.name for path in tmp_path.iterdir()] == ["features.parquet"]


def test_an_interrupted_embedding_goes_on_behind_its_last_whole_part(tmp_path):
    first = TableParts(tmp_path / "features.parquet")
    first.begin("key")
    first.add(0, 2, make(3), [FAILURE])
    (first.folder / "00000002-00000004.json").write_text("[]")  # killed before the part itself was there
    (first.folder / ".00000002-00000004.parquet.0a.tmp").write_text("half")
    again = TableParts(tmp_path / "features.parquet")
    assert again.begin("key") == 2
    assert again.failures() == [FAILURE]


def test_parts_of_something_else_are_not_taken_up(tmp_path):
    parts = TableParts(tmp_path / "features.parquet")
    parts.begin("key")
    with pytest.raises(FeatureTableError, match=r"features.parquet.parts: holds parts of an embedding of other files"):
        parts.begin("other")
    parts.discard()
    assert parts.begin("other") == 0
    parts.add(0, 2, make(3, dataclasses.replace(INFO, weights_hash="another")), [])
    with pytest.raises(FeatureTableError, match="different models or settings"):
        parts.join(INFO)
    assert not (tmp_path / "features.parquet").exists()
