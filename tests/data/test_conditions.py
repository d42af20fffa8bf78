import logging

import pytest

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.conditions import parse_conditions, rows_where


@pytest.fixture(scope="module")
def manifest():
    columns = {
        "id": ["a", "b", "c", "d"],
        "path": ["a.mp4", "b.mp4", "c.mp4", "d.mp4"],
        "label": ["dog", "barking dog", None, "cat"],
        "match": ["0.30", "0.1", "0.9", None],
        "duplicate_of": [None, "a", None, ""],
        "duration_seconds": [1.0, 2.0, None, 10.0],
    }
    return Manifest.from_columns(columns, ".")


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", "abcd"),
        ("match>=0.3", "ac"),
        ("match>=0.3 duplicate_of=''", "ac"),
        ('duplicate_of="" match < 0.5', "a"),
        ("match=.3", "a"),
        ("match!=0.3", "bcd"),
        ("match=''", "d"),
        ("label='barking dog'", "b"),
        ("label!=dog", "bcd"),
        ("duration_seconds>1.5", "bd"),
        ("duration_seconds<=1", "a"),
        ("  id=c  ", "c"),
    ],
)
def test_rows_that_meet_all_conditions_stay(manifest, text, ids):
    assert "".join(rows_where(manifest, text)["id"]) == ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mtch>0.3", r"data.where: the manifest has no column 'mtch'; it has id, path, .* Did you mean match\?"),
        ("label=cow", "label=cow: no row meets this; label is barking dog, cat, dog or empty"),
        ("match>2", r"match>2: no row meets this; match is 0.1, 0.30, 0.9 or empty"),
        ("match>high", "match>high: 'high' is no number"),
        ("label>3", "label>3: the column 'label' has text, such as 'dog'"),
        ("match", "'match' is no condition.*Write conditions such as"),
        ("match>=0.3 and id=a", "'and id=a' is no condition"),
        ("id==a", "'id==a' is no condition"),
        ("label='dog", '"label=\'dog" is no condition'),
        ("__import__('os')", "is no condition"),
        ("id=a id=b", "no row meets all of id=a id=b"),
    ],
)
def test_errors_name_the_column_and_its_values(manifest, text, message):
    with pytest.raises(ManifestError, match=message):
        rows_where(manifest, text)


def test_the_log_counts_the_rows(manifest, caplog):
    caplog.set_level(logging.INFO)
    rows_where(manifest, "match>=0.3")
    assert "data.where (match>=0.3): 2 of 4 rows" in caplog.text


def test_a_condition_prints_as_it_is_written():
    assert " ".join(map(str, parse_conditions("a!='' b<=3"))) == "a!='' b<=3"
