import numpy as np

from avssl.downstream.robustness import score_disturbances, score_groups
from avssl.downstream.robustness.disturbances import CLEAN, DISTURBANCES
from avssl.downstream.robustness.tables import accuracy_table, disturbance_table, group_table

NAMES = (CLEAN, *DISTURBANCES)


def predictions():
    clean = np.array([0, 1, 1, 0])
    unchanged = dict.fromkeys(NAMES, clean)
    return {"video": unchanged, "audio": unchanged | {"audio of another class": np.array([1, 0, 1, 0])}}


def test_rows_by_hand():
    labels, partners = np.array([0, 1, 0, 0]), np.array([1, 0, 1, 1])
    rows = {(r["disturbance"], r["modality"]): r for r in score_disturbances(predictions(), labels, partners, seed=0)}
    assert len(rows) == 2 * len(NAMES)
    clean = rows[CLEAN, "audio"]
    assert (clean["accuracy"], clean["change"], clean["became_partner"], clean["reached"]) == (0.75, 0.0, None, True)
    swapped = rows["audio of another class", "audio"]
    assert (swapped["accuracy"], swapped["change"], swapped["changed"]) == (0.25, -0.5, 0.5)
    assert swapped["became_partner"] == 0.5
    assert swapped["reached"]
    assert not rows["audio of another class", "video"]["reached"]
    assert rows["no audio", "audio"]["became_partner"] is None


def test_groups_by_hand():
    groups = score_groups(np.array(["1", "1", None, "1"]), predictions(), np.array([0, 1, 0, 0]), np.arange(4), 0)
    assert groups["groups"]["1"]["n"] == 3
    assert groups["groups"]["1"]["video"]["accuracy"] == 1.0
    assert groups["groups"]["(none)"]["audio"]["accuracy"] == 0.0
    gap = groups["gap"]["video"]
    assert (gap["best"], gap["worst"], gap["gap"]) == ("1", "(none)", 1.0)


def test_tables_hold_the_rows_in_percent():
    rows = score_disturbances(predictions(), np.array([0, 1, 0, 0]), np.array([1, 0, 1, 1]), seed=0)
    header, body = accuracy_table(rows)
    assert header == ["disturbance", "video", "audio"]
    assert body[0] == ["clean", "75.0", "75.0"]
    assert len(body) == len(NAMES)
    header, body = disturbance_table(rows, "audio")
    assert [line[0] for line in body] == [n for n in NAMES if n == CLEAN or DISTURBANCES[n].modality == "audio"]
    swapped = dict(zip(header, body[-1], strict=True))
    assert (swapped["accuracy"], swapped["change"], swapped["partner's class"]) == ("25.0", "-50.0", "50.0")
    header, body = group_table(
        score_groups(np.array(["1", "2", "2", "1"]), predictions(), np.array([0, 1, 0, 0]), np.arange(4), 0)
    )
    assert header == ["group", "n", "video", "95 %", "audio", "95 %"]
    assert body[0][:3] == ["1", "2", "100.0"]
    assert body[-2] == ["gap", "", "50.0", "1 over 2", "50.0", "1 over 2"]
