import csv

import pytest

from avssl.data import Failure, Ledger, TooManyBadFiles


def failure(row, reason="not_media", message="a text, with a comma"):
    return Failure(row, f"id{row}", f"{row}.mp4", "container", reason, message)


def test_ledger_counts_each_row_once_with_its_first_reason():
    ledger = Ledger(100, 1.0)
    ledger.add([failure(7), failure(3, "truncated"), failure(7, "no_audio"), failure(1)])
    assert len(ledger) == 3
    assert 7 in ledger
    assert 8 not in ledger
    assert ledger.counts() == {"not_media": 2, "truncated": 1}


def test_ledger_stops_above_the_share_and_says_why():
    ledger = Ledger(30, max_bad_fraction=0.1)
    ledger.add([failure(row) for row in range(2)])
    ledger.add([failure(2, "no_audio", "c.mp4: no sound")])  # 10 %, not more
    with pytest.raises(TooManyBadFiles) as caught:
        ledger.add([failure(9)])
    text = str(caught.value)
    assert "4 of 30 rows could not be read" in text
    assert "0.1 (data.max_bad_fraction)" in text
    assert "not_media: 3\n    id0: a text, with a comma" in text
    assert "no_audio: 1\n    id2: c.mp4: no sound" in text


def test_ledger_writes_a_table(tmp_path):
    ledger = Ledger(10, 1.0)
    ledger.write(tmp_path / "dropped_files.csv")
    assert (tmp_path / "dropped_files.csv").read_text().count("\n") == 1
    ledger.add([failure(7), failure(3)])
    ledger.write(tmp_path / "dropped_files.csv")
    with (tmp_path / "dropped_files.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["id3", "id7"]
    assert rows[0] == {
        "id": "id3", "path": "3.mp4", "stream": "container", "reason": "not_media", "message": "a text, with a comma",
    }  # fmt: skip


def test_ledger_survives_a_checkpoint():
    ledger, other = Ledger(10, 1.0), Ledger(10, 1.0)
    ledger.add([failure(7), failure(3)])
    other.load_state_dict(ledger.state_dict())
    assert list(other) == list(ledger)


def test_ledger_rejects_an_impossible_share():
    with pytest.raises(ValueError, match=r"max_bad_fraction \(1.5\)"):
        Ledger(3, 1.5)
