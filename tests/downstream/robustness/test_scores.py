import numpy as np
import pytest

from avssl.downstream.robustness import (
    draw_corruptions,
    draw_group_gaps,
    score_corruptions,
    score_disturbances,
    score_groups,
)
from avssl.downstream.robustness.disturbances import CLEAN, DISTURBANCES
from avssl.downstream.robustness.tables import (
    accuracy_table,
    corruption_table,
    disturbance_table,
    group_note,
    group_table,
)
from avssl.transforms.corruptions import Corruption

NAMES = (CLEAN, *DISTURBANCES)


def predictions():
    clean = np.array([0, 1, 1, 0])
    unchanged = dict.fromkeys(NAMES, clean)
    return {"video": unchanged, "audio": unchanged | {"audio of another class": np.array([1, 0, 1, 0])}}


def test_rows_by_hand():
    labels, partners = np.array([0, 1, 0, 0]), np.array([1, 0, 1, 1])
    rows = {
        (r["disturbance"], r["modality"]): r
        for r in score_disturbances(predictions(), labels, partners, np.arange(4), 0)
    }
    assert len(rows) == 2 * len(NAMES)
    clean = rows[CLEAN, "audio"]
    assert (clean["accuracy"], clean["change"], clean["became_partner"], clean["reached"]) == (0.75, 0.0, None, True)
    swapped = rows["audio of another class", "audio"]
    assert (swapped["accuracy"], swapped["change"], swapped["changed"]) == (0.25, -0.5, 0.5)
    assert swapped["became_partner"] == 0.5
    assert swapped["reached"]
    assert not rows["audio of another class", "video"]["reached"]
    assert rows["no audio", "audio"]["became_partner"] is None


HITS = {"video": np.array([1.0, 1, 0, 1]), "audio": np.array([1.0, 0, 0, 0.5])}


def test_groups_by_hand():
    groups = score_groups(np.array(["1", "1", None, "1"]), HITS, np.arange(4), 0)
    assert groups["groups"]["1"]["n"] == 3
    assert groups["groups"]["1"]["video"]["mean"] == 1.0
    assert groups["groups"]["1"]["audio"]["mean"] == 0.5
    assert groups["groups"]["(none)"]["audio"]["mean"] == 0.0
    gap = groups["gap"]["video"]
    assert (gap["best"], gap["worst"], gap["gap"], gap["test"]) == ("1", "(none)", 1.0, None)
    assert "fewer of '(none)' (1), '1' (3)" in groups["no_test"]
    assert group_note(groups).startswith("no test of the gap: at least 5 recordings")
    assert draw_group_gaps({"size": groups}) is None


def test_a_gap_has_its_test_and_a_picture():
    hits = {"pointing": np.repeat([1.0, 0.0], 6)}
    groups = score_groups(np.repeat(["a", "b"], 6), hits, np.arange(12), 0)
    test = groups["gap"]["pointing"]["test"]
    assert test["p_value"] == 2 / 924  # of all divisions of 12 recordings
    assert test["interval"] == (1, 1)
    assert groups["no_test"] == ""
    assert "chosen after looking" in group_note(groups)
    _, body = group_table(groups)
    assert body[-2:] == [["gap", "", "100.0", "a over b"], ["p-value of the gap", "", "0.002", "gap 100.0 to 100.0"]]
    assert draw_group_gaps({"letter": groups}).startswith(b"\x89PNG")


def test_corruptions_by_hand():
    clean, blurred = Corruption("blur", 0), Corruption("blur", 4)
    scores = {
        None: {"video": np.array([1.0, 0.5, 0.5, 0]), "audio": np.ones(4)},
        clean: {"video": np.array([1.0, 0.5, 0.5, 0]), "audio": np.ones(4)},
        blurred: {"video": np.array([0.5, 0.25, 0.25, 0]), "audio": np.ones(4)},
    }
    rows = score_corruptions(scores, {"video": ("video",), "audio": ("audio",)}, np.arange(4), 0)
    assert [(r["number"], r["corruption"], r["severity"]) for r in rows] == [
        ("video", "clean", 0),
        ("video", "blur", 0),
        ("video", "blur", 4),
        ("audio", "clean", 0),  # blur does not reach the audio
    ]
    assert (rows[2]["mean"], rows[2]["drop"], rows[2]["strength"]) == (0.25, 0.5, 4)
    assert rows[2]["drop_interval"] == pytest.approx((0.5, 0.5))  # each clip loses half, whatever is resampled
    assert {**rows[1], "corruption": "clean", "strength": None} == rows[0]
    header, body = corruption_table([rows[0], rows[2]], "video", 0.1)
    assert header == ["corruption", "clean", "severity 4", "chance", "drop at 4", "95 %"]
    assert body == [["blur", "50.0", "25.0", "10.0", "50.0", "50.0 to 50.0"]]
    assert draw_corruptions([rows[0], rows[2]], {"chance": {"video": 0.1}}).startswith(b"\x89PNG")


def test_nothing_can_be_lost_of_nothing():
    zero = {"video": np.zeros(4)}
    (_, row) = score_corruptions({None: zero, Corruption("jpeg", 1): zero}, {"video": ("video",)}, np.arange(4), 0)
    assert (row["drop"], row["drop_interval"]) == (None, None)


def test_tables_hold_the_rows_in_percent():
    rows = score_disturbances(predictions(), np.array([0, 1, 0, 0]), np.array([1, 0, 1, 1]), np.arange(4), 0)
    header, body = accuracy_table(rows)
    assert header == ["disturbance", "video", "audio"]
    assert body[0] == ["clean", "75.0", "75.0"]
    assert len(body) == len(NAMES)
    header, body = disturbance_table(rows, "audio")
    assert [line[0] for line in body] == [n for n in NAMES if n == CLEAN or DISTURBANCES[n].modality == "audio"]
    swapped = dict(zip(header, body[-1], strict=True))
    assert (swapped["accuracy"], swapped["change"], swapped["partner's class"]) == ("25.0", "-50.0", "50.0")
    header, body = group_table(score_groups(np.array(["1", "2", "2", "1"]), HITS, np.arange(4), 0))
    assert header == ["group", "n", "video", "95 %", "audio", "95 %"]
    assert body[0][:3] == ["1", "2", "100.0"]
    assert body[-2] == ["gap", "", "50.0", "1 over 2", "75.0", "1 over 2"]
