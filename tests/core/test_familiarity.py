"""Tests of the line and the verdict of a familiarity check."""

import dataclasses

from avssl.core.familiarity import DomainScore, Familiarity, SoundCheck

LIKE = DomainScore("frames", 10.0, 20.0, 0.005, 256)
UNLIKE = dataclasses.replace(LIKE, score=30.0)
SURE = SoundCheck(0.6, 0.1, 0.01, 8, 0.2, 1 / 33, 32)


def test_a_familiar_video_says_so_in_one_line():
    line = Familiarity(8, (LIKE,), SURE).line
    assert line == "familiar: like the training clips, over 8 windows"


def test_a_foreign_one_gives_every_reason_with_n():
    unsure = dataclasses.replace(SURE, own=0.1, others_p=0.9)
    found = Familiarity(8, (UNLIKE,), unsure, "shapes")
    assert found.is_foreign
    assert len(found.reasons) == 2
    for part in ("WARNING", "distance 30, threshold 20", "n = 256", "p = 0.90, n = 32", "trained on shapes"):
        assert part in found.line
    assert "\n" not in found.line


def test_silence_counts_only_over_enough_windows():
    """Four sign flips cannot reach 0.05: such a video is neither foreign nor familiar."""
    unsure = SoundCheck(0.1, 0.1, 0.5, 4, None, None, 0)
    short = Familiarity(4, (), unsure)
    assert not short.is_foreign
    assert "unknown" in short.line
    long = Familiarity(8, (), dataclasses.replace(unsure, num_windows=8))
    assert long.is_foreign
    assert "no surer than silence" in long.line


def test_everything_is_plain_for_json():
    plain = Familiarity(8, (UNLIKE,), SURE).plain()
    assert plain["is_foreign"]
    assert plain["domains"][0]["threshold"] == 20.0
    assert plain["sound"]["num_others"] == 32
